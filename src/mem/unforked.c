/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which memory a fork would leave out (MADV_DONTFORK) though it belongs in the image. Does no system call. V8's heap
 * is such memory, all of it. */
#include "mem/pages.h"

static bool is_unforked(const Cpx__Vma *v)
{
	bool is_private = v->kind == CPX__VMA__KIND__ANON ||
			  v->kind == CPX__VMA__KIND__FILE_PRIVATE;

	return is_private && v->vm_flags & VMA_DONTFORK && !(v->vm_flags & VMA_DROPPABLE) &&
	       !vma_is_aside(v);
}

int unforked_list(const Cpx__Mm *mm, struct unforked **ret, size_t *ret_n, struct err *err)
{
	size_t max = 0, n = 0;

	*ret = NULL;
	for (size_t i = 0; i < mm->n_vma; i++) {
		const Cpx__Vma *v = mm->vma[i];

		if (!is_unforked(v))
			continue;
		if (grow(ret, &max, n, sizeof(**ret)) < 0) {
			free(TAKE_PTR(*ret));
			return err_nomem(err);
		}
		(*ret)[n++] = (struct unforked){v->start, v->end};
	}
	*ret_n = n;
	return 0;
}
