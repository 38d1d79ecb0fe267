/* Registers an SQLite extension in a program that links SQLite as a shared library and cannot load extensions, such as a node of
 * dqlite: its virtual file system has no dlopen. Preloaded, it stands in front of sqlite3_open_v2:
 *
 *   cc -shared -fPIC -o preload.so preload.c -ldl
 *   LD_PRELOAD=./preload.so SQLITE_PRELOAD=libsqlite_ivf.so SQLITE_PRELOAD_ENTRY=sqlite3_ivf_init PROGRAM
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*entry_function)(sqlite3 *, char **, const void *);
typedef int (*open_function)(const char *, sqlite3 **, int, const char *);

static entry_function entry;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Called for each connection. A loadable extension may answer SQLITE_OK_LOAD_PERMANENTLY, an error for an automatic one. */
static int load(sqlite3 *db, char **message, const void *api) {
  int code = entry(db, message, api);
  if (code != SQLITE_OK && code != SQLITE_OK_LOAD_PERMANENTLY) return code;
  /* dqlite 1.11 reads pages that a transaction has written to the WAL before its end with an error (522): a training larger than
   * the page cache would fail, as would any such write to an ordinary table. */
  return sqlite3_exec(db, "PRAGMA cache_spill = OFF", NULL, NULL, message);
}

/* At the first open and not before: the program must have called sqlite3_config, which fails once SQLite is initialised. */
static void add(void) {
  const char *path = getenv("SQLITE_PRELOAD"), *name = getenv("SQLITE_PRELOAD_ENTRY");
  void *library = path ? dlopen(path, RTLD_NOW | RTLD_NODELETE) : NULL;
  if (library) entry = (entry_function)dlsym(library, name ? name : "sqlite3_extension_init");
  if (!entry || sqlite3_auto_extension((void (*)(void))load) != SQLITE_OK) {
    const char *error = dlerror();
    fprintf(stderr, "preload: SQLITE_PRELOAD=%s: %s\n", path ? path : "", error ? error : "names no extension");
    exit(1);
  }
}

int sqlite3_open_v2(const char *name, sqlite3 **db, int flags, const char *vfs) {
  open_function next = (open_function)dlsym(RTLD_NEXT, "sqlite3_open_v2");
  pthread_once(&once, add);
  return next(name, db, flags, vfs);
}
