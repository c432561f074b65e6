/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Walks any message of the schema by its protobuf-c descriptor. Pure memory. */
#include "engine/record_json.h"
#include "base/util.h"

#include <inttypes.h>

static bool is_printable(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] < 0x20 || data[i] == 0x7f)
			return false;
	return true;
}

static json_t *hex_to_json(const uint8_t *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	_cleanup_free_ char *hex = malloc(2 * len + 1);

	if (!hex)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		hex[2 * i] = digits[data[i] >> 4];
		hex[2 * i + 1] = digits[data[i] & 15];
	}
	return json_pack("{s:o}", "hex", json_stringn_nocheck(hex, 2 * len));
}

json_t *bytes_to_json(const uint8_t *data, size_t len)
{
	json_t *text = NULL;

	if (len == 0)
		return json_string("");
	if (is_printable(data, len))
		text = json_stringn((const char *)data, len); /* NULL unless UTF-8 */
	return text ? text : hex_to_json(data, len);
}

static json_t *unsigned_to_json(uint64_t v)
{
	char digits[24];

	if (v <= INT64_MAX)
		return json_integer(v);
	snprintf(digits, sizeof(digits), "%" PRIu64, v);
	return json_string(digits);
}

static json_t *enum_to_json(const ProtobufCEnumDescriptor *d, int value)
{
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(d, value);

	return v ? json_string(v->name) : json_integer(value);
}

/* One value of f's type at p. */
static json_t *value_to_json(const ProtobufCFieldDescriptor *f, const void *p)
{
	const ProtobufCBinaryData *bytes = p;

	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		return json_integer(*(const int32_t *)p);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return json_integer(*(const int64_t *)p);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return json_integer(*(const uint32_t *)p);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return unsigned_to_json(*(const uint64_t *)p);
	case PROTOBUF_C_TYPE_FLOAT:
		return json_real(*(const float *)p);
	case PROTOBUF_C_TYPE_DOUBLE:
		return json_real(*(const double *)p);
	case PROTOBUF_C_TYPE_BOOL:
		return json_boolean(*(const protobuf_c_boolean *)p);
	case PROTOBUF_C_TYPE_ENUM:
		return enum_to_json(f->descriptor, *(const int *)p);
	case PROTOBUF_C_TYPE_STRING:
		return bytes_to_json(*(const uint8_t *const *)p, strlen(*(char *const *)p));
	case PROTOBUF_C_TYPE_BYTES:
		return bytes_to_json(bytes->data, bytes->len);
	case PROTOBUF_C_TYPE_MESSAGE:
		return record_to_json(*(ProtobufCMessage *const *)p);
	}
	return json_null();
}

static size_t size_of_value(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return 4;
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_ENUM:
		return sizeof(int);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	default:
		return 8;
	}
}

static json_t *array_to_json(const ProtobufCFieldDescriptor *f, const uint8_t *base)
{
	const uint8_t *item = *(const uint8_t *const *)(base + f->offset);
	size_t n = *(const size_t *)(base + f->quantifier_offset);
	json_t *array = json_array();

	for (size_t i = 0; i < n && array; i++) {
		if (json_array_append_new(array, value_to_json(f, item)) < 0) {
			json_decref(array);
			return NULL;
		}
		item += size_of_value(f->type);
	}
	return array;
}

static bool is_unset(const ProtobufCFieldDescriptor *f, const uint8_t *base)
{
	return f->type == PROTOBUF_C_TYPE_MESSAGE && f->label != PROTOBUF_C_LABEL_REPEATED &&
	       !*(void *const *)(base + f->offset);
}

json_t *record_to_json(const ProtobufCMessage *msg)
{
	const uint8_t *base = (const uint8_t *)msg;
	json_t *object = json_object();

	for (unsigned i = 0; i < msg->descriptor->n_fields && object; i++) {
		const ProtobufCFieldDescriptor *f = &msg->descriptor->fields[i];
		json_t *value;

		if (is_unset(f, base))
			continue;
		value = f->label == PROTOBUF_C_LABEL_REPEATED ? array_to_json(f, base)
							      : value_to_json(f, base + f->offset);
		if (json_object_set_new(object, f->name, value) < 0) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}
