/* What is below the filter.
 *
 * nbdkit does not tell a filter.  But it loads exactly one plugin, before
 * any filter, and makes its symbols global: so the plugin's entry, which
 * all of them have by the same name, leads to the file it came from, and
 * our plugins' marker can be looked up.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "below.h"

/* These give the bytes of a file, a remote one, memory, or another NBD
 * server.  Not here: plugins that make a disk round files (floppy, iso,
 * partitioning), serve a guest's (vddk, libvirt, guestfs), or do whatever
 * a script says.
 */
static const char *const plugins_of_bytes[] = {
  "curl", "data", "file", "memory", "nbd", "split", "ssh", "torrent",
};

/* The loaded file that defines 'symbol'; false if none does. */
static bool
find_file (const char *symbol, void **address, Dl_info *file)
{
  *address = dlsym (RTLD_DEFAULT, symbol);
  return *address && dladdr (*address, file) != 0;
}

const struct ndf_fixup_door *
below_door (void)
{
  Dl_info plugin, marked;
  void *entry, *door;

  if (!find_file ("plugin_init", &entry, &plugin) ||
      !find_file (NDF_FIXUP_DOOR_NAME, &door, &marked) ||
      plugin.dli_fbase != marked.dli_fbase)
    return NULL;
  return door;
}

char *
below_plugin (void)
{
  static const char before[] = "nbdkit-", after[] = "-plugin.so";
  Dl_info plugin;
  void *entry;
  const char *name, *end;

  if (!find_file ("plugin_init", &entry, &plugin) || !plugin.dli_fname)
    return NULL;
  name = strrchr (plugin.dli_fname, '/');
  name = name ? name + 1 : plugin.dli_fname;
  if (strncmp (name, before, sizeof before - 1) != 0)
    return NULL;
  name += sizeof before - 1;
  end = strstr (name, after);
  if (end == NULL || end == name || end[sizeof after - 1] != '\0')
    return NULL;
  return strndup (name, (size_t) (end - name));
}

bool
below_serves_bytes (const char *plugin)
{
  const size_t n = sizeof plugins_of_bytes / sizeof plugins_of_bytes[0];

  for (size_t i = 0; plugin && i < n; i++)
    if (strcmp (plugin, plugins_of_bytes[i]) == 0)
      return true;
  return false;
}
