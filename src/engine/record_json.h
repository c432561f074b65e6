/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Records as JSON, by way of the schema's descriptors: no record has code of its own. */
#ifndef CPX_ENGINE_RECORD_JSON_H
#define CPX_ENGINE_RECORD_JSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

/*
 * An object with every field of msg under its name in the schema; messages that are not set are
 * left out. Enums are their names. Bytes are a string where they are printable UTF-8, else
 * {"hex": "..."}. Numbers above INT64_MAX are strings of digits. NULL on lack of memory.
 */
json_t *record_to_json(const ProtobufCMessage *msg);

/* Bytes as above. */
json_t *bytes_to_json(const uint8_t *data, size_t len);

#endif
