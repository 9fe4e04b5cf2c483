/**
 * Builds a Rust addon if cargo is installed and its sources have changed since the last build. Plain JavaScript without
 * dependencies, because it may run on the system's Node before anything is installed.
 */
import { spawn, spawnSync } from 'node:child_process'
import { copyFileSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { exitWith, ROOT, SetupError } from './toolchain/toolchain.mjs'

/** The folder of the Rust workspace, whose crates share compiled dependencies. */
export const RUST_WORKSPACE = join(ROOT, 'gpu-node', 'native')

const RELEASE = ['--release', '--locked', '--target-dir', 'target']
const SHOWN_CHARACTERS = 2000
/** Lets cargo draw its progress into a pipe too. */
const PROGRESS_ENVIRONMENT = { CARGO_TERM_PROGRESS_WHEN: 'always', CARGO_TERM_PROGRESS_WIDTH: '80' }
/** A line of progress, which cargo overwrites: `    Building [====> ] 12/100: libc\r`. */
const PROGRESS = / *Building \[[^\]]*\] (\d+)\/(\d+)[^\r\n]*\r/g
const END_WITH_PARENT = fileURLToPath(new URL('processes/end-with-parent.mjs', import.meta.url))

/**
 * An addon that can be built.
 *
 * @typedef {object} AddonBuild
 * @property {string} name for messages: `native addon`
 * @property {string} workspace the folder with the Rust workspace
 * @property {string} crate the name of the crate: `copal-addon`
 * @property {string} addon the path of the built addon
 * @property {string} hash the hash of the sources, which is compiled into the addon
 * @property {string} duration how long a build takes: `one to three minutes`
 * @property {string} without the consequence of having no addon, a sentence
 * @property {string} script the script that builds it, for messages
 */

/**
 * Builds an addon if cargo is installed and the sources have changed since the last build.
 *
 * The binary is replaced in one step: a process that loads it meanwhile gets the old or the new one, and a process that
 * has it loaded keeps the old one.
 *
 * @param {AddonBuild} build
 * @param {(line: string) => void} print receives one line when it builds, or when there is no cargo
 * @param {{ cargo?: string, signal?: AbortSignal, onStart?: () => void, onProgress?: (done: number, total: number) => void }}
 *   [options] another cargo program, a signal that aborts the build, what is called when cargo starts, and what receives
 *   the number of compiled crates
 * @returns {Promise<'built' | 'fresh' | 'no-cargo'>}
 * @throws {SetupError} when cargo fails, with the end of its output
 */
export async function buildAddon(build, print, options = {}) {
  const { cargo = 'cargo' } = options
  const { name, workspace, addon, hash } = build
  if (readOrEmpty(addon).includes(hash)) return 'fresh'
  const version = spawnSync(cargo, ['--version'], { encoding: 'utf8', cwd: workspace })
  if (version.status !== 0) {
    const why = version.error
      ? 'cargo is not installed'
      : `cargo does not run (${firstError(version.stderr)})`
    print(`The ${name} is not built: ${why}. ${build.without}`)
    return 'no-cargo'
  }
  print(`Building the ${name} with ${version.stdout.trim()}, ${build.duration} …`)
  options.onStart?.()
  await runCargo(cargo, build, options)
  const unfinished = `${addon}.${process.pid}`
  try {
    copyFileSync(join(workspace, 'target', 'release', libraryFile(build.crate)), unfinished)
    renameSync(unfinished, addon)
  } finally {
    rmSync(unfinished, { force: true })
  }
  return 'built'
}

/**
 * Like {@link buildAddon}, for callers that can do without the addon: a failed build prints one line with the reason,
 * and an aborted build prints nothing.
 *
 * @returns {Promise<'built' | 'fresh' | 'no-cargo' | 'failed'>} never rejects
 */
export async function offerAddon(build, print, options = {}) {
  try {
    return await buildAddon(build, print, options)
  } catch (error) {
    if (!options.signal?.aborted) {
      print(
        `The ${build.name} cannot be built (${firstError(error.message)}). ${build.without} ` +
          `Run 'node ${build.script}' for details.`,
      )
    }
    return 'failed'
  }
}

/**
 * Runs a build script if it is the program. With `--optional`, as `npm ci` runs it, a failed build prints a line and
 * exits with 0.
 *
 * @param {string} file the URL of the script
 * @param {() => AddonBuild} build
 */
export async function runAsProgram(file, build) {
  if (process.argv[1] !== fileURLToPath(file)) return
  const print = (line) => process.stderr.write(`${line}\n`)
  try {
    const isOptional = process.argv.includes('--optional')
    // `npx copal` in a checkout without packages: npm would hide the minutes of a build that `npm start` shows.
    if (isOptional && process.env.npm_command === 'exec') return
    const outcome = await (isOptional ? offerAddon(build(), print) : buildAddon(build(), print))
    if (outcome === 'no-cargo' && !isOptional) process.exitCode = 1
  } catch (error) {
    exitWith(error)
  }
}

function libraryFile(crate) {
  const name = crate.replaceAll('-', '_')
  if (process.platform === 'win32') return `${name}.dll`
  return process.platform === 'darwin' ? `lib${name}.dylib` : `lib${name}.so`
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
async function runCargo(cargo, { name, workspace, crate, hash }, { signal, onProgress }) {
  signal?.throwIfAborted()
  const build = spawn(
    process.execPath,
    [END_WITH_PARENT, cargo, 'rustc', '--package', crate, '--lib', '--crate-type', 'cdylib', ...RELEASE],
    {
      cwd: workspace,
      detached: true,
      stdio: ['pipe', 'ignore', 'pipe'],
      // Compiled into the binary, so that the loader can tell which sources it was built from.
      env: { ...process.env, ...(onProgress ? PROGRESS_ENVIRONMENT : {}), COPAL_SOURCES: hash },
    },
  )
  const end = () => build.stdin.end()
  build.stdin.on('error', () => undefined)
  signal?.addEventListener('abort', end)
  let output = ''
  build.stderr.setEncoding('utf8').on('data', (text) => {
    const [, done, total] = [...(output + text).matchAll(PROGRESS)].at(-1) ?? []
    if (total !== undefined) onProgress?.(Number(done), Number(total))
    output = (output + text).replaceAll(PROGRESS, '').slice(-SHOWN_CHARACTERS)
  })
  const status = await new Promise((resolve, reject) => {
    build.on('error', reject)
    build.on('close', resolve)
  }).finally(() => signal?.removeEventListener('abort', end))
  signal?.throwIfAborted()
  if (status !== 0) throw new SetupError(`cargo could not build the ${name}:\n${output.trim()}`)
}
