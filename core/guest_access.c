/* SPDX-License-Identifier: MIT */
/*
 * Guest memory by linear address, page by page. An entry gets its accessed or dirty bit only if it still is what the walk
 * saw (SDM3 4.8, APM2 5.4.2): another processor may have taken the page away meanwhile, then the walk is made again.
 */
#include <errno.h>
#include <trivet/guest_access.h>

#define PTE_ACCESSED BIT(5)
#define PTE_DIRTY BIT(6)
#define MARK_TRIES 16 /* a guest that keeps changing its tables under us gets no more */

static size_t chunk_at(gva_t gva, size_t size)
{
	size_t rest = PAGE_SIZE - (gva.v & (PAGE_SIZE - 1));

	return size < rest ? size : rest;
}

static int walk(const struct guest_paging *paging, void *space, gva_t gva, unsigned access,
		struct guest_translation *to, struct guest_path *path, struct guest_access_fault *fault)
{
	int error = guest_walk_path(paging, space, gva, access, to, path);

	if (error == -EFAULT)
		*fault = (struct guest_access_fault){ .gva = gva, .error_code = to->error_code };
	return error;
}

static int mark(void *space, const struct guest_path *path, unsigned access)
{
	for (uint32_t i = 0; i < path->count; i++) {
		uint64_t value = path->entry[i].value | PTE_ACCESSED;
		int error = 0;

		if (i == path->count - 1 && (access & GUEST_WRITE))
			value |= PTE_DIRTY;
		if (value != path->entry[i].value)
			error = guest_phys_exchange(space, path->entry[i].gpa, path->entry_bytes,
						    path->entry[i].value, value);
		if (error)
			return error;
	}
	return 0;
}

static int translate(const struct guest_paging *paging, void *space, gva_t gva, unsigned access, gpa_t *gpa,
		     struct guest_access_fault *fault)
{
	for (int i = 0; i < MARK_TRIES; i++) {
		struct guest_translation to;
		struct guest_path path;
		int error = walk(paging, space, gva, access, &to, &path, fault);

		if (!error)
			error = mark(space, &path, access);
		if (error != -EAGAIN) {
			*gpa = to.gpa;
			return error;
		}
	}
	return -EIO;
}

int guest_probe(const struct guest_paging *paging, void *space, gva_t gva, size_t size, unsigned access,
		struct guest_access_fault *fault)
{
	struct guest_translation to;
	int error = 0;

	for (size_t done = 0; done < size && !error; done += chunk_at(GVA(gva.v + done), size - done))
		error = walk(paging, space, GVA(gva.v + done), access, &to, NULL, fault);
	return error;
}

int guest_read(const struct guest_paging *paging, void *space, gva_t gva, void *buf, size_t size,
	       unsigned access, struct guest_access_fault *fault)
{
	size_t done = 0;

	while (done < size) {
		gva_t at = GVA(gva.v + done);
		size_t chunk = chunk_at(at, size - done);
		gpa_t gpa;
		int error = translate(paging, space, at, access, &gpa, fault);

		if (error)
			return error;
		if (!guest_phys_read(space, gpa, (uint8_t *)buf + done, chunk))
			return -EIO;
		done += chunk;
	}
	return 0;
}

int guest_write(const struct guest_paging *paging, void *space, gva_t gva, const void *buf, size_t size,
		unsigned access, struct guest_access_fault *fault)
{
	size_t done = 0;
	int error = 0;

	access |= GUEST_WRITE;
	if (chunk_at(gva, size) != size)
		error = guest_probe(paging, space, gva, size, access, fault);
	while (done < size && !error) {
		gva_t at = GVA(gva.v + done);
		size_t chunk = chunk_at(at, size - done);
		gpa_t gpa;

		error = translate(paging, space, at, access, &gpa, fault);
		if (!error && !guest_phys_write(space, gpa, (const uint8_t *)buf + done, chunk))
			error = -EIO;
		done += chunk;
	}
	return error;
}
