/* Functions that leave their arguments to those of vAccel. */
#include "vaccel.h"
#include <stdlib.h>
#include <string.h>

enum { PAIR = 7 };

struct pair {
	int32_t first, second;
};

static bool is_pair(const void *buf, size_t size, uint32_t id)
{
	return buf && size == sizeof(struct pair) && id == PAIR;
}

static int copy_one(uint32_t type, struct vaccel_arg_array *in, struct vaccel_arg_array *out)
{
	void *buf;
	char *text;
	size_t size;
	int failed;
	switch (type) {
#define CASES(name, ctype, number)                                                            \
	case number: {                                                                        \
		ctype value;                                                                  \
		failed = vaccel_arg_array_get_##name(in, &value);                             \
		return failed ? failed : vaccel_arg_array_set_##name(out, &value);            \
	}                                                                                     \
	case number + 1: {                                                                    \
		ctype *values;                                                                \
		failed = vaccel_arg_array_get_##name##_array(in, &values, &size);             \
		return failed ? failed : vaccel_arg_array_set_##name##_array(out, values, size); \
	}
		NUMERIC_TYPES(CASES)
	case STRING:
		failed = vaccel_arg_array_get_string(in, &text);
		return failed ? failed : vaccel_arg_array_set_string(out, text);
	case BUFFER:
		failed = vaccel_arg_array_get_buffer(in, &buf, &size);
		return failed ? failed : vaccel_arg_array_set_buffer(out, buf, size);
	case CUSTOM:
		failed = vaccel_arg_array_get_custom(in, PAIR, &buf, &size, is_pair);
		return failed ? failed : vaccel_arg_array_set_custom(out, PAIR, buf, size, is_pair);
	default:
		failed = vaccel_arg_array_get_raw(in, &buf, &size);
		return failed ? failed : vaccel_arg_array_set_raw(out, buf, size);
	}
}

/* Each output is the input of its place. */
int echo(struct vaccel_arg *in, size_t n_in, struct vaccel_arg *out, size_t n_out)
{
	struct vaccel_arg_array inputs, outputs;
	if (vaccel_arg_array_wrap(&inputs, in, n_in) || vaccel_arg_array_wrap(&outputs, out, n_out))
		return EINVAL;
	while (vaccel_arg_array_remaining_count(&inputs)) {
		int failed = copy_one(in[inputs.position].type, &inputs, &outputs);
		if (failed)
			return failed;
	}
	return vaccel_arg_array_remaining_count(&outputs) ? ERANGE : 0;
}

static int take_apart(const void *buf, size_t size, uint32_t id, size_t data_size, void *data)
{
	if (!is_pair(buf, size, id) || data_size != size)
		return EINVAL;
	memcpy(data, buf, size);
	return 0;
}

static int put_together(const void *data, size_t data_size, uint32_t id, void **buf, size_t *size)
{
	*buf = malloc(data_size);
	*size = data_size;
	if (!*buf)
		return ENOMEM;
	memcpy(*buf, data, data_size);
	return id == PAIR ? 0 : EINVAL;
}

/* Swaps the halves of a pair. */
int swap(struct vaccel_arg *in, size_t n_in, struct vaccel_arg *out, size_t n_out)
{
	struct vaccel_arg_array inputs, outputs;
	struct pair pair;
	vaccel_arg_array_wrap(&inputs, in, n_in);
	vaccel_arg_array_wrap(&outputs, out, n_out);
	int failed = vaccel_arg_array_get_serialized(&inputs, CUSTOM, PAIR, &pair, sizeof(pair),
						     take_apart);
	if (failed)
		return failed;
	pair = (struct pair){ pair.second, pair.first };
	return vaccel_arg_array_set_serialized(&outputs, CUSTOM, PAIR, &pair, sizeof(pair),
					       put_together);
}
