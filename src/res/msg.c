/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Building messages of the schema by hand. Everything comes from malloc(3), because that is what
 * protobuf-c's free_unpacked() gives back with the default allocator.
 */
#include "base/util.h"
#include "res/res.h"

void *msg_new(size_t size, void (*init)(void *))
{
	void *msg = malloc(size);

	if (msg)
		init(msg);
	return msg;
}

int msg_set_bytes(ProtobufCBinaryData *dst, const void *data, size_t len)
{
	uint8_t *copy = NULL;

	if (len) {
		copy = malloc(len);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, data, len);
	}
	free(dst->data);
	dst->data = copy;
	dst->len = len;
	return 0;
}

/* Grows when n is a power of two: the capacity follows from n, no field keeps it. */
static int make_room(void *array_field, size_t n, size_t elem)
{
	void *grown, *old;

	if (n & (n - 1))
		return 0;
	memcpy(&old, array_field, sizeof(old));
	grown = realloc(old, (n ? 2 * n : 1) * elem);
	if (!grown)
		return -ENOMEM;
	memcpy(array_field, &grown, sizeof(grown));
	return 0;
}

int msg_append(void *array_field, size_t *n, void *item)
{
	void **array;
	int r = make_room(array_field, *n, sizeof(void *));

	if (r < 0)
		return r;
	memcpy(&array, array_field, sizeof(array));
	array[(*n)++] = item;
	return 0;
}

int msg_append_bytes(ProtobufCBinaryData **array, size_t *n, const void *data, size_t len)
{
	ProtobufCBinaryData item = {0};
	int r = make_room(array, *n, sizeof(item));

	if (r == 0)
		r = msg_set_bytes(&item, data, len);
	if (r == 0)
		(*array)[(*n)++] = item;
	return r;
}
