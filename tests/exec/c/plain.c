/* Functions that take their arguments apart by themselves. */
#include "vaccel.h"
#include <stdio.h>
#include <string.h>

#define FUNCTION(name) \
	int name(struct vaccel_arg *in, size_t n_in, struct vaccel_arg *out, size_t n_out)

FUNCTION(nothing)
{
	(void)in, (void)n_in, (void)out, (void)n_out;
	return 0;
}

/* Each output is the input of its place. */
FUNCTION(echo)
{
	if (n_in != n_out)
		return EINVAL;
	for (size_t i = 0; i < n_in; i++) {
		if (in[i].size != out[i].size || in[i].type != out[i].type)
			return EINVAL;
		if (in[i].custom_type_id != out[i].custom_type_id || in[i].owned || out[i].owned)
			return EINVAL;
		if ((uintptr_t)in[i].buf % 16 || !in[i].size != !in[i].buf)
			return EFAULT;
		if (in[i].size)
			memcpy(out[i].buf, in[i].buf, in[i].size);
	}
	return 0;
}

/* Type, size and custom type id of each input. */
FUNCTION(describe)
{
	uint32_t *numbers = out[0].buf;
	if (n_out != 1 || out[0].size != n_in * 12)
		return EINVAL;
	for (size_t i = 0; i < n_in; i++) {
		*numbers++ = in[i].type;
		*numbers++ = (uint32_t)in[i].size;
		*numbers++ = in[i].custom_type_id;
	}
	return 0;
}

FUNCTION(fails_with)
{
	(void)n_in, (void)n_out;
	if (n_out)
		*(int32_t *)out[0].buf = 99;
	return *(int32_t *)in[0].buf;
}

/* Adds the input to what is in the output. */
FUNCTION(accumulate)
{
	(void)n_in, (void)n_out;
	*(int32_t *)out[0].buf += *(int32_t *)in[0].buf;
	return 0;
}

/* Counts its calls. */
FUNCTION(count)
{
	static int32_t calls;
	(void)in, (void)n_in, (void)n_out;
	*(int32_t *)out[0].buf = ++calls;
	return 0;
}

/* Adds one to all bytes of the input. */
FUNCTION(increment)
{
	(void)n_in, (void)n_out;
	for (size_t i = 0; i < in[0].size; i++)
		((uint8_t *)out[0].buf)[i] = ((uint8_t *)in[0].buf)[i] + 1;
	return 0;
}

FUNCTION(shorten)
{
	(void)in, (void)n_in, (void)n_out;
	memcpy(out[0].buf, "short", 5);
	out[0].size = 5;
	return 0;
}

FUNCTION(lengthen)
{
	(void)in, (void)n_in, (void)n_out;
	out[0].size++;
	return 0;
}

FUNCTION(replace)
{
	static char own[64];
	(void)in, (void)n_in, (void)n_out;
	out[0].buf = own;
	return 0;
}

FUNCTION(print)
{
	(void)n_in, (void)out, (void)n_out;
	printf("printed: %s", (char *)in[0].buf);
	return 0;
}
