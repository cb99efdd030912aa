/* A library that says goodbye: appends a word to the file that the last call named. */
#include "vaccel.h"
#include <stdio.h>
#include <string.h>

static char path[4096];

int remember(struct vaccel_arg *in, size_t n_in, struct vaccel_arg *out, size_t n_out)
{
	(void)n_in, (void)out, (void)n_out;
	strncpy(path, in[0].buf, sizeof(path) - 1);
	return 0;
}

__attribute__((destructor)) static void end(void)
{
	FILE *file = *path ? fopen(path, "a") : NULL;
	if (file) {
		fputs("goodbye", file);
		fclose(file);
	}
}
