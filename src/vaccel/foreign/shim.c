/* The argument functions of vAccel 0.8, for libraries that call them.
 *
 * `struct vaccel_arg` and `struct vaccel_arg_array` are laid out as there; `arguments.py` writes
 * the former. Functions return 0 or an errno: EINVAL where type, size or content do not fit, ERANGE
 * beyond the last argument. An argument that does not fit is not passed over.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct vaccel_arg {
	void *buf;
	size_t size;
	uint32_t type;
	uint32_t custom_type_id;
	bool owned; /* by the functions here: allocated with malloc */
};

struct vaccel_arg_array {
	struct vaccel_arg *args;
	size_t count;
	size_t capacity;
	size_t position; /* of the next argument to get or set */
	bool owned;
};

typedef bool (*validator)(const void *buf, size_t size, uint32_t id);
typedef int (*serializer)(const void *data, size_t data_size, uint32_t id, void **buf,
			  size_t *size);
typedef int (*deserializer)(const void *buf, size_t size, uint32_t id, size_t data_size,
			    void *data);

enum { RAW = 0, BOOL = 21, BOOL_ARRAY = 22, STRING = 27, BUFFER = 28, CUSTOM = 29, TYPES = 30 };
enum { DEFAULT_CAPACITY = 8 };

/* X(name, C type, number of the scalar type); the array type follows it. */
#define NUMERIC_TYPES(X)          \
	X(int8, int8_t, 1)        \
	X(int16, int16_t, 3)      \
	X(int32, int32_t, 5)      \
	X(int64, int64_t, 7)      \
	X(uint8, uint8_t, 9)      \
	X(uint16, uint16_t, 11)   \
	X(uint32, uint32_t, 13)   \
	X(uint64, uint64_t, 15)   \
	X(float, float, 17)       \
	X(double, double, 19)     \
	X(bool, bool, 21)         \
	X(char, char, 23)         \
	X(uchar, unsigned char, 25)

static const size_t element_sizes[TYPES] = {
#define SIZES(name, type, number) [number] = sizeof(type), [number + 1] = sizeof(type),
	NUMERIC_TYPES(SIZES)
};

/* -- one argument ---------------------------------------------------------------------------- */

int vaccel_arg_init_from_buf(struct vaccel_arg *arg, void *buf, size_t size, uint32_t type,
			     uint32_t id)
{
	if (!arg || !buf != !size)
		return EINVAL;
	*arg = (struct vaccel_arg){ buf, size, type, id, false };
	return 0;
}

/* Without `buf` the memory is zeros. */
int vaccel_arg_init(struct vaccel_arg *arg, const void *buf, size_t size, uint32_t type,
		    uint32_t id)
{
	if (!arg || (buf && !size))
		return EINVAL;
	void *copy = size ? calloc(1, size) : NULL;
	if (size && !copy)
		return ENOMEM;
	if (buf)
		memcpy(copy, buf, size);
	*arg = (struct vaccel_arg){ copy, size, type, id, true };
	return 0;
}

int vaccel_arg_release(struct vaccel_arg *arg)
{
	if (!arg)
		return EINVAL;
	if (arg->owned)
		free(arg->buf);
	*arg = (struct vaccel_arg){ .type = TYPES };
	return 0;
}

static int keep_or_free(int failed, struct vaccel_arg *made, struct vaccel_arg **arg)
{
	if (failed)
		free(made);
	else
		*arg = made;
	return failed;
}

int vaccel_arg_new(struct vaccel_arg **arg, const void *buf, size_t size, uint32_t type,
		   uint32_t id)
{
	struct vaccel_arg *made = arg ? malloc(sizeof(*made)) : NULL;
	if (!made)
		return arg ? ENOMEM : EINVAL;
	return keep_or_free(vaccel_arg_init(made, buf, size, type, id), made, arg);
}

int vaccel_arg_from_buf(struct vaccel_arg **arg, void *buf, size_t size, uint32_t type,
			uint32_t id)
{
	struct vaccel_arg *made = arg ? malloc(sizeof(*made)) : NULL;
	if (!made)
		return arg ? ENOMEM : EINVAL;
	return keep_or_free(vaccel_arg_init_from_buf(made, buf, size, type, id), made, arg);
}

int vaccel_arg_delete(struct vaccel_arg *arg)
{
	int failed = vaccel_arg_release(arg);
	if (!failed)
		free(arg);
	return failed;
}

static bool bools(const unsigned char *values, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (values[i] > 1)
			return false;
	return true;
}

/* Whether the content is one of its type. */
static bool valid(uint32_t type, const void *buf, size_t size)
{
	if (type == RAW || type == CUSTOM)
		return true;
	if (type >= TYPES || !buf || !size)
		return false;
	if (type == STRING)
		return ((const char *)buf)[size - 1] == '\0';
	if (type == BUFFER)
		return true;
	size_t element = element_sizes[type];
	bool scalar = type % 2;
	if (scalar ? size != element : size % element != 0)
		return false;
	return (type != BOOL && type != BOOL_ARRAY) || bools(buf, size);
}

/* -- arrays of arguments --------------------------------------------------------------------- */

int vaccel_arg_array_init(struct vaccel_arg_array *array, size_t capacity)
{
	if (!array)
		return EINVAL;
	capacity = capacity ? capacity : DEFAULT_CAPACITY;
	*array = (struct vaccel_arg_array){ .capacity = capacity, .owned = true };
	array->args = calloc(capacity, sizeof(*array->args));
	return array->args ? 0 : ENOMEM;
}

int vaccel_arg_array_wrap(struct vaccel_arg_array *array, struct vaccel_arg *args, size_t count)
{
	if (!array || (!args && count))
		return EINVAL;
	*array = (struct vaccel_arg_array){ args, count, count, 0, false };
	return 0;
}

void vaccel_arg_array_clear(struct vaccel_arg_array *array)
{
	if (!array || !array->args)
		return;
	for (size_t i = 0; i < array->count; i++)
		vaccel_arg_release(&array->args[i]);
	array->count = array->position = 0;
}

int vaccel_arg_array_release(struct vaccel_arg_array *array)
{
	if (!array || !array->args)
		return EINVAL;
	if (array->owned) {
		vaccel_arg_array_clear(array);
		free(array->args);
	}
	*array = (struct vaccel_arg_array){ 0 };
	return 0;
}

int vaccel_arg_array_new(struct vaccel_arg_array **array, size_t capacity)
{
	struct vaccel_arg_array *made = array ? malloc(sizeof(*made)) : NULL;
	if (!made)
		return array ? ENOMEM : EINVAL;
	int failed = vaccel_arg_array_init(made, capacity);
	if (failed)
		free(made);
	else
		*array = made;
	return failed;
}

int vaccel_arg_array_delete(struct vaccel_arg_array *array)
{
	int failed = vaccel_arg_array_release(array);
	if (!failed)
		free(array);
	return failed;
}

/* -- add ------------------------------------------------------------------------------------- */

static int reserve(struct vaccel_arg_array *array, size_t more)
{
	size_t capacity = array->capacity;
	if (capacity - array->count >= more)
		return 0;
	if (!array->owned || !capacity)
		return ERANGE;
	while (capacity - array->count < more)
		capacity *= 2;
	struct vaccel_arg *args = realloc(array->args, capacity * sizeof(*args));
	if (!args)
		return ENOMEM;
	array->args = args;
	array->capacity = capacity;
	return 0;
}

static int add(struct vaccel_arg_array *array, void *buf, size_t size, uint32_t type, uint32_t id,
	       bool owned)
{
	if (!array || !valid(type, buf, size))
		return EINVAL;
	int failed = reserve(array, 1);
	if (failed)
		return failed;
	array->args[array->count++] = (struct vaccel_arg){ buf, size, type, id, owned };
	return 0;
}

int vaccel_arg_array_add_raw(struct vaccel_arg_array *array, void *buf, size_t size)
{
	return !buf != !size ? EINVAL : add(array, buf, size, RAW, 0, false);
}

#define ADD(name, ctype, number)                                                              \
	int vaccel_arg_array_add_##name(struct vaccel_arg_array *array, ctype *value)         \
	{                                                                                     \
		return add(array, value, sizeof(*value), number, 0, false);                   \
	}                                                                                     \
	int vaccel_arg_array_add_##name##_array(struct vaccel_arg_array *array, ctype *values, \
						size_t count)                                 \
	{                                                                                     \
		return add(array, values, count * sizeof(*values), number + 1, 0, false);     \
	}
NUMERIC_TYPES(ADD)

int vaccel_arg_array_add_string(struct vaccel_arg_array *array, char *text)
{
	return text ? add(array, text, strlen(text) + 1, STRING, 0, false) : EINVAL;
}

int vaccel_arg_array_add_buffer(struct vaccel_arg_array *array, void *buf, size_t size)
{
	return add(array, buf, size, BUFFER, 0, false);
}

int vaccel_arg_array_add_custom(struct vaccel_arg_array *array, uint32_t id, void *buf,
				size_t size, validator check)
{
	if (!check || !check(buf, size, id))
		return EINVAL;
	return add(array, buf, size, CUSTOM, id, false);
}

int vaccel_arg_array_add_serialized(struct vaccel_arg_array *array, uint32_t type, uint32_t id,
				    const void *data, size_t data_size, serializer serialize)
{
	void *buf;
	size_t size;
	if (!array || !serialize)
		return EINVAL;
	int failed = serialize(data, data_size, id, &buf, &size);
	if (failed)
		return failed;
	failed = add(array, buf, size, type, id, true);
	if (failed)
		free(buf);
	return failed;
}

int vaccel_arg_array_add_range(struct vaccel_arg_array *array, const struct vaccel_arg_array *from,
			       size_t start, size_t count, bool copy)
{
	if (!array || !from)
		return EINVAL;
	if (start >= from->count || count > from->count - start)
		return ERANGE;
	int failed = reserve(array, count);
	for (size_t i = 0; i < count && !failed; i++) {
		struct vaccel_arg *to = &array->args[array->count + i];
		*to = from->args[start + i];
		to->owned = false;
		if (copy && to->buf)
			failed = vaccel_arg_init(to, to->buf, to->size, to->type,
						 to->custom_type_id);
		for (size_t done = 0; failed && done < i; done++)
			vaccel_arg_release(&array->args[array->count + done]);
	}
	if (!failed)
		array->count += count;
	return failed;
}

int vaccel_arg_array_add_all(struct vaccel_arg_array *array, const struct vaccel_arg_array *from,
			     bool copy)
{
	if (!array || !from)
		return EINVAL;
	return from->count ? vaccel_arg_array_add_range(array, from, 0, from->count, copy) : 0;
}

int vaccel_arg_array_add_remaining(struct vaccel_arg_array *array,
				   const struct vaccel_arg_array *from, bool copy)
{
	if (!array || !from)
		return EINVAL;
	if (from->position >= from->count)
		return 0;
	return vaccel_arg_array_add_range(array, from, from->position,
					  from->count - from->position, copy);
}

/* -- get and set ----------------------------------------------------------------------------- */

/* The next argument, of a type and with fitting content. */
static int next(struct vaccel_arg_array *array, uint32_t type, struct vaccel_arg **arg)
{
	if (!array)
		return EINVAL;
	if (array->position >= array->count)
		return ERANGE;
	*arg = &array->args[array->position];
	return (*arg)->type == type ? 0 : EINVAL;
}

static int next_filled(struct vaccel_arg_array *array, uint32_t type, struct vaccel_arg **arg)
{
	int failed = next(array, type, arg);
	if (failed)
		return failed;
	if (!(*arg)->buf || !(*arg)->size)
		return EINVAL;
	size_t element = type < TYPES && element_sizes[type] ? element_sizes[type] : 1;
	bool scalar = type % 2 && type < STRING;
	return (scalar ? (*arg)->size == element : (*arg)->size % element == 0) ? 0 : EINVAL;
}

int vaccel_arg_array_get_raw(struct vaccel_arg_array *array, void **buf, size_t *size)
{
	struct vaccel_arg *arg;
	int failed = buf && size ? next(array, RAW, &arg) : EINVAL;
	if (failed)
		return failed;
	*buf = arg->buf;
	*size = arg->size;
	array->position++;
	return 0;
}

int vaccel_arg_array_set_raw(struct vaccel_arg_array *array, void *buf, size_t size)
{
	struct vaccel_arg *arg;
	int failed = next(array, RAW, &arg);
	if (failed)
		return failed;
	bool content = buf && size, room = arg->buf && arg->size;
	if (content != room || (content && arg->size < size))
		return EINVAL;
	if (content)
		memcpy(arg->buf, buf, size);
	array->position++;
	return 0;
}

static int set(struct vaccel_arg_array *array, uint32_t type, const void *content, size_t size)
{
	struct vaccel_arg *arg;
	int failed = content ? next_filled(array, type, &arg) : EINVAL;
	if (failed)
		return failed;
	if (arg->size < size)
		return EINVAL;
	memcpy(arg->buf, content, size);
	array->position++;
	return 0;
}

#define GET_AND_SET(name, ctype, number)                                                       \
	int vaccel_arg_array_get_##name(struct vaccel_arg_array *array, ctype *value)          \
	{                                                                                      \
		struct vaccel_arg *arg;                                                        \
		int failed = value ? next_filled(array, number, &arg) : EINVAL;                \
		if (failed)                                                                    \
			return failed;                                                         \
		memcpy(value, arg->buf, sizeof(*value));                                       \
		array->position++;                                                             \
		return 0;                                                                      \
	}                                                                                      \
	int vaccel_arg_array_get_##name##_array(struct vaccel_arg_array *array, ctype **values, \
						size_t *count)                                 \
	{                                                                                      \
		struct vaccel_arg *arg;                                                        \
		int failed = values ? next_filled(array, number + 1, &arg) : EINVAL;           \
		if (failed)                                                                    \
			return failed;                                                         \
		*values = arg->buf;                                                            \
		if (count)                                                                     \
			*count = arg->size / sizeof(**values);                                 \
		array->position++;                                                             \
		return 0;                                                                      \
	}                                                                                      \
	int vaccel_arg_array_set_##name(struct vaccel_arg_array *array, ctype *value)          \
	{                                                                                      \
		return set(array, number, value, sizeof(*value));                              \
	}                                                                                      \
	int vaccel_arg_array_set_##name##_array(struct vaccel_arg_array *array, ctype *values, \
						size_t count)                                  \
	{                                                                                      \
		return set(array, number + 1, values, count * sizeof(*values));                \
	}
NUMERIC_TYPES(GET_AND_SET)

int vaccel_arg_array_get_string(struct vaccel_arg_array *array, char **text)
{
	struct vaccel_arg *arg;
	int failed = text ? next_filled(array, STRING, &arg) : EINVAL;
	if (failed)
		return failed;
	if (!valid(STRING, arg->buf, arg->size))
		return EINVAL;
	*text = arg->buf;
	array->position++;
	return 0;
}

int vaccel_arg_array_set_string(struct vaccel_arg_array *array, char *text)
{
	struct vaccel_arg *arg;
	int failed = text ? next_filled(array, STRING, &arg) : EINVAL;
	if (failed)
		return failed;
	size_t size = strlen(text) + 1;
	if (arg->size < size)
		return EINVAL;
	memcpy(arg->buf, text, size);
	memset((char *)arg->buf + size, 0, arg->size - size);
	array->position++;
	return 0;
}

int vaccel_arg_array_get_buffer(struct vaccel_arg_array *array, void **buf, size_t *size)
{
	struct vaccel_arg *arg;
	int failed = buf && size ? next_filled(array, BUFFER, &arg) : EINVAL;
	if (failed)
		return failed;
	*buf = arg->buf;
	*size = arg->size;
	array->position++;
	return 0;
}

int vaccel_arg_array_set_buffer(struct vaccel_arg_array *array, void *buf, size_t size)
{
	return size ? set(array, BUFFER, buf, size) : EINVAL;
}

static int next_custom(struct vaccel_arg_array *array, uint32_t id, struct vaccel_arg **arg)
{
	int failed = next(array, CUSTOM, arg);
	if (failed)
		return failed;
	return (*arg)->custom_type_id == id ? 0 : EINVAL;
}

int vaccel_arg_array_get_custom(struct vaccel_arg_array *array, uint32_t id, void **buf,
				size_t *size, validator check)
{
	struct vaccel_arg *arg;
	int failed = buf && check ? next_custom(array, id, &arg) : EINVAL;
	if (failed)
		return failed;
	if (!check(arg->buf, arg->size, id))
		return EINVAL;
	*buf = arg->buf;
	if (size)
		*size = arg->size;
	array->position++;
	return 0;
}

int vaccel_arg_array_set_custom(struct vaccel_arg_array *array, uint32_t id, void *buf,
				size_t size, validator check)
{
	struct vaccel_arg *arg;
	int failed = check ? next_custom(array, id, &arg) : EINVAL;
	if (failed)
		return failed;
	if (arg->size != size || !check(buf, size, id))
		return EINVAL;
	if (size)
		memcpy(arg->buf, buf, size);
	array->position++;
	return 0;
}

/* An argument that functions of the library's own take apart or put together. */
static int next_serialized(struct vaccel_arg_array *array, uint32_t type, uint32_t *id,
			   struct vaccel_arg **arg)
{
	if (type == CUSTOM)
		return next_custom(array, *id, arg);
	*id = 0;
	int failed = next(array, type, arg);
	if (failed)
		return failed;
	return valid(type, (*arg)->buf, (*arg)->size) ? 0 : EINVAL;
}

int vaccel_arg_array_get_serialized(struct vaccel_arg_array *array, uint32_t type, uint32_t id,
				    void *data, size_t data_size, deserializer deserialize)
{
	struct vaccel_arg *arg;
	int failed = data && deserialize ? next_serialized(array, type, &id, &arg) : EINVAL;
	if (!failed)
		failed = deserialize(arg->buf, arg->size, id, data_size, data);
	if (!failed)
		array->position++;
	return failed;
}

int vaccel_arg_array_set_serialized(struct vaccel_arg_array *array, uint32_t type, uint32_t id,
				    void *data, size_t data_size, serializer serialize)
{
	struct vaccel_arg *arg;
	void *buf;
	size_t size;
	int failed = data && serialize ? next_serialized(array, type, &id, &arg) : EINVAL;
	if (!failed)
		failed = serialize(data, data_size, id, &buf, &size);
	if (failed)
		return failed;
	if (arg->size == size) {
		if (size)
			memcpy(arg->buf, buf, size);
		array->position++;
	} else {
		failed = EINVAL;
	}
	free(buf);
	return failed;
}

/* -- positions ------------------------------------------------------------------------------- */

size_t vaccel_arg_array_remaining_count(const struct vaccel_arg_array *array)
{
	return array && array->position < array->count ? array->count - array->position : 0;
}

int vaccel_arg_array_get_remaining(struct vaccel_arg_array *array, struct vaccel_arg **args,
				   size_t *count)
{
	if (!array || !args || !count)
		return EINVAL;
	*count = vaccel_arg_array_remaining_count(array);
	*args = *count ? &array->args[array->position] : NULL;
	return 0;
}

size_t vaccel_arg_array_position(const struct vaccel_arg_array *array)
{
	return array ? array->position : 0;
}

void vaccel_arg_array_set_position(struct vaccel_arg_array *array, size_t position)
{
	if (array)
		array->position = position < array->count ? position : array->count;
}

void vaccel_arg_array_reset_position(struct vaccel_arg_array *array)
{
	vaccel_arg_array_set_position(array, 0);
}

size_t vaccel_arg_array_count(const struct vaccel_arg_array *array)
{
	return array ? array->count : 0;
}

struct vaccel_arg *vaccel_arg_array_raw(struct vaccel_arg_array *array)
{
	return array ? array->args : NULL;
}

/* -- the deprecated functions that a called function may use ---------------------------------- */

void *vaccel_extract_serial_arg(struct vaccel_arg *args, int place)
{
	return args && place >= 0 ? args[place].buf : NULL;
}

void *vaccel_extract_nonserial_arg(struct vaccel_arg *args, int place,
				   void *(*deserialize)(void *, uint32_t))
{
	if (!args || place < 0 || !deserialize)
		return NULL;
	return deserialize(args[place].buf, (uint32_t)args[place].size);
}

int vaccel_write_serial_arg(struct vaccel_arg *args, int place, void *buf)
{
	if (!args || place < 0 || !buf)
		return EINVAL;
	memcpy(args[place].buf, buf, args[place].size);
	return 0;
}

int vaccel_write_nonserial_arg(struct vaccel_arg *args, int place, void *buf,
			       void *(*serialize)(void *, uint32_t *))
{
	uint32_t size = 0;
	if (!args || place < 0 || !buf || !serialize)
		return EINVAL;
	void *content = serialize(buf, &size);
	if (!content)
		return EINVAL;
	int failed = size && size <= args[place].size ? 0 : EINVAL;
	if (!failed)
		memcpy(args[place].buf, content, size);
	free(content);
	return failed;
}
