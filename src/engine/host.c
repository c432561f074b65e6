/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * This machine: architecture, CPU, kernel, clocks, vdso. Reads uname(2), clock_gettime(2),
 * /proc/sys/kernel/random/boot_id, cpuid (src/arch) and our own vdso through the auxiliary
 * vector: the kernel maps the same one into every task of this machine and architecture.
 */
#include "engine/host.h"
#include "base/clock.h"
#include "base/hash.h"
#include "arch/arch.h"
#include "base/util.h"
#include "cpx.h"
#include "proc/proc.h"

#include <sys/auxv.h>
#include <sys/utsname.h>

struct vdso_size {
	uint64_t vdso, vvar;
};

static int measure_vdso(struct vdso_size *ret, struct err *err)
{
	struct proc_vmas maps = {0};
	_cleanup_close_ int dir = -1;
	int r = proc_open(-1, getpid(), 0, &dir, err);

	if (r == 0)
		r = proc_maps(dir, &maps, err);
	*ret = (struct vdso_size){0};
	for (size_t i = 0; i < maps.n; i++) {
		const struct proc_vma *v = &maps.vma[i];

		if (strcmp(v->path, "[vdso]") == 0)
			ret->vdso += v->end - v->start;
		else if (strncmp(v->path, "[vvar", 5) == 0) /* [vvar_vclock] since 6.13 */
			ret->vvar += v->end - v->start;
	}
	proc_vmas_release(&maps);
	return r;
}

static int set_string(char **field, const char *value)
{
	*field = strdup(value);
	return *field ? 0 : -ENOMEM;
}

static int fill_vdso(Cpx__Host *h, struct err *err)
{
	const void *vdso = (const void *)getauxval(AT_SYSINFO_EHDR);
	XXH128_canonical_t hash;
	struct vdso_size size;
	int ret = measure_vdso(&size, err);

	if (ret < 0)
		return ret;
	h->vdso_size = vdso ? size.vdso : 0;
	h->vvar_size = size.vvar;
	if (!vdso)
		return 0;
	XXH128_canonicalFromHash(&hash, XXH3_128bits(vdso, size.vdso));
	h->vdso_hash.data = malloc(sizeof(hash));
	if (!h->vdso_hash.data)
		return err_nomem(err);
	h->vdso_hash.len = sizeof(hash);
	memcpy(h->vdso_hash.data, &hash, sizeof(hash));
	return 0;
}

static int fill_cpu(Cpx__Host *h, struct err *err)
{
	struct arch_cpu cpu;

	arch_cpu_get(&cpu);
	h->xcr0 = cpu.xcr0;
	h->xsave_size = cpu.xsave_size;
	h->cpu_features = malloc(sizeof(cpu.features));
	if (!h->cpu_features || set_string(&h->cpu_vendor, cpu.vendor) < 0)
		return err_nomem(err);
	memcpy(h->cpu_features, cpu.features, sizeof(cpu.features));
	h->n_cpu_features = ARRAY_SIZE(cpu.features);
	return 0;
}

static int fill_names(Cpx__Host *h, struct err *err)
{
	struct utsname uts;

	if (uname(&uts) < 0)
		return err_sys(err, -errno, "uname");
	if (set_string(&h->arch, uts.machine) < 0 || set_string(&h->kernel, uts.release) < 0 ||
	    set_string(&h->hostname, uts.nodename) < 0 ||
	    set_string(&h->cpx_version, CPX_VERSION) < 0)
		return err_nomem(err);
	return 0;
}

/* What is compared at a restore. */
static int fill_facts(Cpx__Host *h, struct err *err)
{
	int ret = fill_names(h, err);

	if (ret == 0)
		ret = fill_cpu(h, err);
	if (ret == 0)
		ret = fill_vdso(h, err);
	h->page_size = sysconf(_SC_PAGESIZE);
	return ret;
}

static int fill_boot(Cpx__Host *h, struct err *err)
{
	char boot_id[37] = "";
	int ret = proc_boot_id(-1, boot_id, err);

	if (ret < 0)
		return ret;
	return set_string(&h->boot_id, boot_id) < 0 ? err_nomem(err) : 0;
}

static int fill_model(Cpx__Host *h, struct err *err)
{
	char model[64];

	arch_cpu_model(model, sizeof(model));
	return set_string(&h->cpu_model, model) < 0 ? err_nomem(err) : 0;
}

int host_fill(Cpx__Host *h, struct err *err)
{
	int ret = fill_facts(h, err);

	if (ret == 0)
		ret = fill_boot(h, err);
	return ret < 0 ? ret : fill_model(h, err);
}

void host_read_clocks(Cpx__Host *h)
{
	h->realtime_ns = clock_ns(CLOCK_REALTIME);
	h->monotonic_ns = clock_ns(CLOCK_MONOTONIC);
	h->boottime_ns = clock_ns(CLOCK_BOOTTIME);
}

bool host_is_same_boot(const Cpx__Host *had)
{
	char boot_id[37] = "";

	return proc_boot_id(-1, boot_id, NULL) == 0 && strcmp(boot_id, had->boot_id) == 0;
}

static void features_of(const Cpx__Host *h, struct arch_cpu *ret)
{
	*ret = (struct arch_cpu){.xcr0 = h->xcr0, .xsave_size = h->xsave_size};
	memcpy(ret->features, h->cpu_features,
	       MIN(h->n_cpu_features, ARRAY_SIZE(ret->features)) * sizeof(ret->features[0]));
}

static int check_cpu(const Cpx__Host *had, const Cpx__Host *here, struct refusals *refusals)
{
	struct arch_cpu was, is;
	char missing[512];

	features_of(had, &was);
	features_of(here, &is);
	if (!arch_cpu_lacks(&was, &is, missing, sizeof(missing)))
		return 0;
	return refuse(refusals, 0, NULL, "processor",
		      "this machine lacks features that the tasks may be using (dumped on %s): %s; "
		      "restore on a machine that has them",
		      had->cpu_model, missing);
}

static int check_vdso(const Cpx__Host *had, const Cpx__Host *here, struct refusals *refusals)
{
	if (had->vdso_hash.len == 0 ||
	    (had->vdso_hash.len == here->vdso_hash.len &&
	     memcmp(had->vdso_hash.data, here->vdso_hash.data, here->vdso_hash.len) == 0))
		return 0;
	return refuse(
		refusals, 0, NULL, "vdso",
		"the tasks have pointers into the vdso of kernel %s, that of kernel %s here is "
		"another; restore under the same kernel build",
		had->kernel, here->kernel);
}

static int compare(const Cpx__Host *had, const Cpx__Host *here, struct refusals *refusals)
{
	int ret = 0;

	if (strcmp(had->arch, here->arch) != 0)
		return refuse(refusals, 0, NULL, "architecture",
			      "the image is of a %s machine, this one is %s", had->arch,
			      here->arch);
	if (had->page_size != here->page_size)
		ret = refuse(refusals, 0, NULL, "page size",
			     "the image has pages of %u bytes, this machine of %u", had->page_size,
			     here->page_size);
	if (ret == 0 && had->xsave_size > here->xsave_size)
		ret = refuse(refusals, 0, NULL, "processor",
			     "the tasks' extended state (xsave) takes %u bytes, here it is %u",
			     had->xsave_size, here->xsave_size);
	if (ret == 0)
		ret = check_cpu(had, here, refusals);
	if (ret == 0)
		ret = check_vdso(had, here, refusals);
	return ret;
}

int host_check(const Cpx__Host *had, struct refusals *refusals, struct err *err)
{
	Cpx__Host *here = malloc(sizeof(*here));
	int ret;

	if (!here)
		return err_nomem(err);
	cpx__host__init(here);
	ret = fill_facts(here, err);
	if (ret == 0 && compare(had, here, refusals) < 0)
		ret = err_nomem(err);
	cpx__host__free_unpacked(here, NULL);
	return ret;
}
