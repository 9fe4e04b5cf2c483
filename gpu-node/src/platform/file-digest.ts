import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { writeAtomically } from './atomic-file.ts'
import { isErrno } from './errno.ts'

/**
 * Returns the SHA-256 of a file, read as a stream.
 *
 * @param onBytes called with the bytes hashed so far
 * @throws the reason of `signal`
 */
export async function sha256File(
  path: string,
  options: { signal?: AbortSignal | undefined; onBytes?: (bytes: number) => void } = {},
): Promise<string> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) {
    options.signal?.throwIfAborted()
    hash.update(chunk as Buffer)
    bytes += (chunk as Buffer).length
    options.onBytes?.(bytes)
  }
  return hash.digest('hex')
}

/**
 * Returns the SHA-256 of a file. The hash is cached as long as the file's size, inode and modification times stay the
 * same, so a model of many gigabytes is hashed once and not at every start.
 */
export async function fingerprintFile(
  path: string,
  cacheDir: string,
  options: { signal?: AbortSignal | undefined; onBytes?: (bytes: number) => void } = {},
): Promise<string> {
  const state = await fileState(path)
  const record = join(
    cacheDir,
    'fingerprints',
    `${createHash('sha256').update(resolve(path)).digest('hex')}.json`,
  )
  const known = await readFingerprint(record)
  if (known !== undefined && known.state === state) return known.sha256
  const sha256 = await sha256File(path, options)
  // The hash is cached only if the file did not change while it was read.
  if ((await fileState(path)) === state) await remember(record, { path: resolve(path), state, sha256 })
  return sha256
}

/** Returns a stamp that changes whenever the file's content may have changed. */
export async function fileState(path: string): Promise<string> {
  const { size, mtimeNs, ctimeNs, ino } = await stat(path, { bigint: true })
  return `${size}:${mtimeNs}:${ctimeNs}:${ino}`
}

async function remember(
  record: string,
  fingerprint: { path: string; state: string; sha256: string },
): Promise<void> {
  try {
    await writeAtomically(record, JSON.stringify(fingerprint))
  } catch (error) {
    // A cache that cannot be written is not an error: the file is hashed again at the next start.
    if (!isErrno(error, 'EROFS', 'EACCES', 'EPERM')) throw error
  }
}

async function readFingerprint(path: string): Promise<{ state: string; sha256: string } | undefined> {
  try {
    const json: unknown = JSON.parse(await readFile(path, 'utf8'))
    if (typeof json !== 'object' || json === null) return undefined
    const { state, sha256 } = json as Record<string, unknown>
    return typeof state === 'string' && typeof sha256 === 'string' ? { state, sha256 } : undefined
  } catch {
    // Missing or damaged: the hash is computed again.
    return undefined
  }
}
