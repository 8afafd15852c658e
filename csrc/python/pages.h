/* Memory of large results, kept for the next ones. */
#ifndef AD_PAGES_H
#define AD_PAGES_H

#include <stddef.h>

enum { AD_PAGES_FROM = 1 << 18 }; /* bytes: what the system's allocator may take from fresh pages each time */

/* NumPy's memory handlers (NEP 49) have this form: `context` is not used, sizes are not relied upon. */
void *ad_pages_malloc(void *context, size_t size);
void *ad_pages_calloc(void *context, size_t count, size_t size);
void *ad_pages_realloc(void *context, void *data, size_t size);
void ad_pages_free(void *context, void *data, size_t size);

/* Bytes that are kept and in no one's use. */
size_t ad_pages_idle(void);

/* Give these back to the system. */
void ad_pages_trim(void);

#endif
