/* A library that ends its process when it is loaded. */
#include <stdlib.h>

__attribute__((constructor)) static void begin(void)
{
	_Exit(5);
}

int f(void)
{
	return 0;
}
