/**
 * Builds the Rust addon where there is cargo, unless what was built is of these sources already.
 *
 * `node infra/local/build-native.mjs [--optional]`, or a function of this file from another script. With
 * `--optional`, which is how `npm ci` runs it, a failure is told and is none. Plain JavaScript without
 * dependencies, because it may run on the system's Node before anything is installed.
 */
import { spawn, spawnSync } from 'node:child_process'
import { copyFileSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sourceHash } from '../../gpu-node/native/source-hash.mjs'
import { exitWith, ROOT, SetupError } from './toolchain/toolchain.mjs'

const LIBRARY = { win32: 'copal_native.dll', darwin: 'libcopal_native.dylib' }
const SHOWN_CHARACTERS = 2000
/** What it means that there is no addon. */
const WITHOUT = 'ONNX Runtime and JavaScript do its work: the same results, more slowly.'

const LEASH = fileURLToPath(new URL('processes/end-with-parent.mjs', import.meta.url))

/** Where the crate is. */
export const CRATE = join(ROOT, 'gpu-node', 'native')

/**
 * Builds the addon if cargo is there and the sources are not those of the last build.
 *
 * The binary takes its place in one step, so that a process that loads it meanwhile gets the old one or
 * the new one, and one that has it loaded keeps the old one.
 *
 * @param {(line: string) => void} say one line when it builds, and one when there is no cargo
 * @param {{ cargo?: string, crate?: string, signal?: AbortSignal }} [options] another program, another crate; what
 *   ends the build
 * @returns {Promise<'built' | 'fresh' | 'no-cargo'>}
 * @throws {SetupError} when cargo fails, with the end of what it said
 */
export async function buildNative(say, options = {}) {
  const { cargo = 'cargo', crate = CRATE } = options
  const addon = join(crate, `copal.${process.platform}-${process.arch}.node`)
  const hash = sourceHash(crate)
  if (readOrEmpty(addon).includes(hash)) return 'fresh'
  const version = spawnSync(cargo, ['--version'], { encoding: 'utf8', cwd: crate })
  if (version.status !== 0) {
    const why = version.error ? 'No cargo here' : `cargo does not run here (${firstError(version.stderr)})`
    say(`${why}: the native addon is not built. ${WITHOUT}`)
    return 'no-cargo'
  }
  say(`Building the native addon with ${version.stdout.trim()}, one to three minutes …`)
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
 * As {@link buildNative} where the addon is welcome but not needed: a build that fails is one line with the
 * reason, and one that was ended is none.
 *
 * @returns {Promise<'built' | 'fresh' | 'no-cargo' | 'failed'>} never rejects
 */
export async function offerNative(say, options = {}) {
  try {
    return await buildNative(say, options)
  } catch (error) {
    if (!options.signal?.aborted) {
      say(
        `The native addon cannot be built (${firstError(error.message)}). ${WITHOUT} ` +
          `'node infra/local/build-native.mjs' tells more.`,
      )
    }
    return 'failed'
  }
}

/** Of all that cargo said the line that says what is wrong. */
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

/** On a leash: whatever ends this process, also a `kill -9`, ends cargo and its compilers. */
async function runCargo(cargo, crate, hash, { signal }) {
  signal?.throwIfAborted()
  const build = spawn(
    process.execPath,
    [LEASH, cargo, 'build', '--release', '--locked', '--target-dir', 'target'],
    {
      cwd: crate,
      detached: true,
      stdio: ['pipe', 'ignore', 'pipe'],
      // The binary tells it, and is told by it.
      env: { ...process.env, COPAL_SOURCES: hash },
    },
  )
  const end = () => build.stdin.end()
  build.stdin.on('error', () => undefined)
  signal?.addEventListener('abort', end)
  let said = ''
  build.stderr.setEncoding('utf8').on('data', (text) => (said = (said + text).slice(-SHOWN_CHARACTERS)))
  const status = await new Promise((resolve, reject) => {
    build.on('error', reject)
    build.on('close', resolve)
  }).finally(() => signal?.removeEventListener('abort', end))
  signal?.throwIfAborted()
  if (status !== 0) throw new SetupError(`cargo could not build the native addon:\n${said.trim()}`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const say = (line) => process.stderr.write(`${line}\n`)
  try {
    const isOptional = process.argv.includes('--optional')
    const outcome = await (isOptional ? offerNative(say) : buildNative(say))
    if (outcome === 'no-cargo' && !isOptional) process.exitCode = 1
  } catch (error) {
    exitWith(error)
  }
}
