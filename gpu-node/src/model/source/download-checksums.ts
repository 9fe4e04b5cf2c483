import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fingerprintFile, sha256File } from '../../platform/file-digest.ts'

const FILE = 'checksums.json'

/** Writes the SHA-256 of freshly fetched files beside them. */
export async function writeChecksums(
  dir: string,
  names: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  const sums: Record<string, string> = {}
  for (const name of names) sums[name] = await sha256File(join(dir, name), { signal })
  await writeFile(join(dir, FILE), JSON.stringify(sums, null, 2))
}

/**
 * Returns whether every recorded file of a directory still equals what was fetched. Cheap for files that have not changed
 * since the last check.
 */
export async function matchesChecksums(
  dir: string,
  cacheDir: string,
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    const sums = Object.entries(JSON.parse(await readFile(join(dir, FILE), 'utf8')) as Record<string, string>)
    for (const [name, sha256] of sums) {
      if ((await fingerprintFile(join(dir, name), cacheDir, { signal })) !== sha256) return false
    }
    return sums.length > 0
  } catch {
    signal?.throwIfAborted()
    // A file that is missing or unreadable counts as damaged.
    return false
  }
}
