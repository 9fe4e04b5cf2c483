/**
 * Builds the Rust addon if cargo is installed and the sources have changed since the last build.
 *
 * Run it as `node infra/local/build-native.mjs [--optional]`, or call its functions. With `--optional`, as `npm ci`
 * runs it, a failed build prints a line and exits with 0. Plain JavaScript without dependencies, because it may run on
 * the system's Node before anything is installed.
 */
import { spawn, spawnSync } from 'node:child_process'
import { copyFileSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sourceHash } from '../../gpu-node/native/source-hash.mjs'
import { exitWith, ROOT, SetupError } from './toolchain/toolchain.mjs'

const LIBRARY = { win32: 'copal_native.dll', darwin: 'libcopal_native.dylib' }
const RELEASE = ['--release', '--locked', '--target-dir', 'target']
const SHOWN_CHARACTERS = 2000
/** The consequence of having no addon, for messages. */
const WITHOUT_ADDON = 'ONNX Runtime and JavaScript do its work, with the same results but more slowly.'

const END_WITH_PARENT = fileURLToPath(new URL('processes/end-with-parent.mjs', import.meta.url))

/** The folder of the crate. */
export const CRATE = join(ROOT, 'gpu-node', 'native')

/**
 * Builds the addon if cargo is installed and the sources have changed since the last build.
 *
 * The binary is replaced in one step: a process that loads it meanwhile gets the old or the new one, and a process that
 * has it loaded keeps the old one.
 *
 * @param {(line: string) => void} print receives one line when it builds, or when there is no cargo
 * @param {{ cargo?: string, crate?: string, signal?: AbortSignal }} [options] another cargo program, another crate, and
 * a signal that aborts the build
 * @returns {Promise<'built' | 'fresh' | 'no-cargo'>}
 * @throws {SetupError} when cargo fails, with the end of its output
 */
export async function buildNative(print, options = {}) {
  const { cargo = 'cargo', crate = CRATE } = options
  const addon = join(crate, `copal.${process.platform}-${process.arch}.node`)
  const hash = sourceHash(crate)
  if (readOrEmpty(addon).includes(hash)) return 'fresh'
  const version = spawnSync(cargo, ['--version'], { encoding: 'utf8', cwd: crate })
  if (version.status !== 0) {
    const why = version.error
      ? 'cargo is not installed'
      : `cargo does not run (${firstError(version.stderr)})`
    print(`The native addon is not built: ${why}. ${WITHOUT_ADDON}`)
    return 'no-cargo'
  }
  print(`Building the native addon with ${version.stdout.trim()}, one to three minutes …`)
  await runCargo(cargo, crate, hash, options)
  const unfinished = `${addon}.${process.pid}`
  try {
    copyFileSync(
      join(crate, 'target', 'release', LIBRARY[process.platform] ?? 'libcopal_native.so'),
      unfinished,
    )
    renameSync(unfinished, addon)
  } finally {
    rmSync(unfinished, { force: true })
  }
  return 'built'
}

/**
 * Like {@link buildNative}, for callers that can do without the addon: a failed build prints one line with the reason,
 * and an aborted build prints nothing.
 *
 * @returns {Promise<'built' | 'fresh' | 'no-cargo' | 'failed'>} never rejects
 */
export async function offerNative(print, options = {}) {
  try {
    return await buildNative(print, options)
  } catch (error) {
    if (!options.signal?.aborted) {
      print(
        `The native addon cannot be built (${firstError(error.message)}). ${WITHOUT_ADDON} ` +
          `Run 'node infra/local/build-native.mjs' for details.`,
      )
    }
    return 'failed'
  }
}

/** Returns the line of cargo's output that names the error. */
function firstError(message) {
  const lines = message.split('\n').map((line) => line.trim())
  return lines.find((line) => /^error\b/.test(line)) ?? lines[0]
}

function readOrEmpty(path) {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

/** Runs cargo so that it ends with this process, compilers included, even after a `kill -9`. */
async function runCargo(cargo, crate, hash, { signal }) {
  signal?.throwIfAborted()
  const build = spawn(
    process.execPath,
    [END_WITH_PARENT, cargo, 'rustc', '--lib', '--crate-type', 'cdylib', ...RELEASE],
    {
      cwd: crate,
      detached: true,
      stdio: ['pipe', 'ignore', 'pipe'],
      // Compiled into the binary, so that the loader can tell which sources it was built from.
      env: { ...process.env, COPAL_SOURCES: hash },
    },
  )
  const end = () => build.stdin.end()
  build.stdin.on('error', () => undefined)
  signal?.addEventListener('abort', end)
  let output = ''
  build.stderr.setEncoding('utf8').on('data', (text) => (output = (output + text).slice(-SHOWN_CHARACTERS)))
  const status = await new Promise((resolve, reject) => {
    build.on('error', reject)
    build.on('close', resolve)
  }).finally(() => signal?.removeEventListener('abort', end))
  signal?.throwIfAborted()
  if (status !== 0) throw new SetupError(`cargo could not build the native addon:\n${output.trim()}`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const print = (line) => process.stderr.write(`${line}\n`)
  try {
    const isOptional = process.argv.includes('--optional')
    const outcome = await (isOptional ? offerNative(print) : buildNative(print))
    if (outcome === 'no-cargo' && !isOptional) process.exitCode = 1
  } catch (error) {
    exitWith(error)
  }
}
