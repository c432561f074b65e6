/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Generated code: in pages that are writable and executable, and in pages made executable later. */
#include "subject.h"

static const unsigned char code[] = {0x8d, 0x47, 0x2a, 0xc3}; /* lea 42(%rdi),%eax; ret */

int main(int argc, char **argv)
{
	int (*add[2])(int);
	char *p;

	subject_init(argc, argv);
	for (int i = 0; i < 2; i++) {
		p = MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE | (i ? PROT_EXEC : 0), MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0));
		memcpy(p + 4094, code, sizeof(code)); /* over a page boundary */
		if (!i)
			MUST(mprotect(p, 8192, PROT_READ | PROT_EXEC));
		add[i] = (int (*)(int))(p + 4094);
	}
	subject_ready();
	subject_wait();
	CHECK_EQ(add[0](1), 43);
	CHECK_EQ(add[1](2), 44);
	subject_pass();
}
