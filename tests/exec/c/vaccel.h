/* What libraries for vAccel 0.8 include: its arguments, and the functions for them. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vaccel_arg {
	void *buf;
	size_t size;
	uint32_t type;
	uint32_t custom_type_id;
	bool owned;
};

struct vaccel_arg_array {
	struct vaccel_arg *args;
	size_t count, capacity, position;
	bool owned;
};

enum { STRING = 27, BUFFER = 28, CUSTOM = 29 };

#define NUMERIC_TYPES(X)                                                                     \
	X(int8, int8_t, 1) X(int16, int16_t, 3) X(int32, int32_t, 5) X(int64, int64_t, 7)    \
	X(uint8, uint8_t, 9) X(uint16, uint16_t, 11) X(uint32, uint32_t, 13)                 \
	X(uint64, uint64_t, 15) X(float, float, 17) X(double, double, 19) X(bool, bool, 21)  \
	X(char, char, 23) X(uchar, unsigned char, 25)

#define DECLARE(name, ctype, number)                                                         \
	int vaccel_arg_array_get_##name(struct vaccel_arg_array *, ctype *);                 \
	int vaccel_arg_array_set_##name(struct vaccel_arg_array *, ctype *);                 \
	int vaccel_arg_array_get_##name##_array(struct vaccel_arg_array *, ctype **, size_t *); \
	int vaccel_arg_array_set_##name##_array(struct vaccel_arg_array *, ctype *, size_t);
NUMERIC_TYPES(DECLARE)

typedef bool (*validator)(const void *, size_t, uint32_t);

int vaccel_arg_array_wrap(struct vaccel_arg_array *, struct vaccel_arg *, size_t);
size_t vaccel_arg_array_remaining_count(const struct vaccel_arg_array *);
int vaccel_arg_array_get_raw(struct vaccel_arg_array *, void **, size_t *);
int vaccel_arg_array_set_raw(struct vaccel_arg_array *, void *, size_t);
int vaccel_arg_array_get_string(struct vaccel_arg_array *, char **);
int vaccel_arg_array_set_string(struct vaccel_arg_array *, char *);
int vaccel_arg_array_get_buffer(struct vaccel_arg_array *, void **, size_t *);
int vaccel_arg_array_set_buffer(struct vaccel_arg_array *, void *, size_t);
int vaccel_arg_array_get_custom(struct vaccel_arg_array *, uint32_t, void **, size_t *, validator);
int vaccel_arg_array_set_custom(struct vaccel_arg_array *, uint32_t, void *, size_t, validator);
int vaccel_arg_array_get_serialized(struct vaccel_arg_array *, uint32_t, uint32_t, void *, size_t,
				    int (*)(const void *, size_t, uint32_t, size_t, void *));
int vaccel_arg_array_set_serialized(struct vaccel_arg_array *, uint32_t, uint32_t, void *, size_t,
				    int (*)(const void *, size_t, uint32_t, void **, size_t *));
