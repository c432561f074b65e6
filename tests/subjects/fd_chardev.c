/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Character devices that hold no state; two of them are root's. */
#include "subject.h"

int main(int argc, char **argv)
{
	int null, zero, full, urandom, kmsg, hwrng;
	char buf[16] = "xxxxxxxxxxxxxxx", other[16];

	subject_init(argc, argv);
	null = MUST(open("/dev/null", O_RDWR | O_NONBLOCK));
	zero = MUST(open("/dev/zero", O_RDONLY));
	full = MUST(open("/dev/full", O_WRONLY | O_CLOEXEC));
	urandom = MUST(open("/dev/urandom", O_RDONLY));
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	hwrng = open("/dev/hwrng", O_RDONLY);
	subject_ready();
	subject_wait();
	CHECK_EQ(write(null, "x", 1), 1);
	CHECK_EQ(read(null, buf, 1), 0);
	CHECK_EQ(fcntl(null, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	CHECK_EQ(read(zero, buf, 16), 16);
	CHECK_EQ(buf[3], 0);
	CHECK_EQ(write(full, "x", 1), -1);
	CHECK_EQ(errno, ENOSPC);
	CHECK_EQ(fcntl(full, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(read(urandom, buf, 16), 16);
	CHECK_EQ(read(urandom, other, 16), 16);
	CHECK(memcmp(buf, other, 16), "not random");
	CHECK(kmsg < 0 || fcntl(kmsg, F_GETFD) == FD_CLOEXEC, "the kernel log is closed");
	CHECK(hwrng < 0 || fcntl(hwrng, F_GETFD) == 0, "hwrng is closed");
	subject_pass();
}
