/**
 * Installs the locked packages and finds a Node that runs our TypeScript. Plain JavaScript without dependencies,
 * because it runs on the system's Node (20 or newer) before anything is installed.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { npmCommand } from '../../../gpu-node/src/platform/npm-command.mjs'

/** A task that has not ended this long after a signal is killed. */
const END_TIMEOUT_MS = 25_000
/** The time a node gives its running requests by default (COPAL_GRACE_MS in `gpu-node/src/settings.ts`). */
const NODE_GRACE_MS = 30_000

/** The signals that ask this process to end. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP']
const END_WITH_PARENT = fileURLToPath(new URL('../processes/end-with-parent.mjs', import.meta.url))

/** The root of the checkout. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..')

/** The oldest Node that Wrangler runs on. The packages `node-<platform>` provide a newer one for most platforms. */
const OLDEST_SYSTEM_NODE = [22, 12, 0]
/** The first Node that strips types without a flag. */
const STRIPS_TYPES_SINCE = [22, 18, 0]

/** Variables that keep tools from sending usage data and asking questions. */
export const QUIET_ENVIRONMENT = {
  WRANGLER_SEND_METRICS: 'false',
  CLOUDFLARE_CF_FETCH_ENABLED: 'false',
  WRANGLER_HIDE_BANNER: 'true',
  DO_NOT_TRACK: '1',
  HF_HUB_DISABLE_TELEMETRY: '1',
  PIP_DISABLE_PIP_VERSION_CHECK: '1',
  NO_UPDATE_NOTIFIER: '1',
}

/** A failure that the user can fix: shown as one line, without a stack. */
export class SetupError extends Error {}

/** A signal that asked this process to end. */
class EndedBySignal extends Error {
  constructor(signal) {
    super(`ended by ${signal}`)
    this.signal = signal
  }
}

/** Parses `22.12.0` into `[22, 12, 0]`. */
function parseVersion(text) {
  return text.split('.').map((part) => Number.parseInt(part, 10))
}

function isOlder(version, than) {
  for (const [index, wanted] of than.entries()) {
    if (version[index] !== wanted) return version[index] < wanted
  }
  return false
}

/**
 * Returns whether every package of `package-lock.json` is installed at its locked version, according to npm's own
 * record of `node_modules`. npm writes that record last, so an interrupted install has none.
 */
export function isInstalled(root) {
  let locked
  let installed
  try {
    locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
    installed = JSON.parse(readFileSync(join(root, 'node_modules', '.package-lock.json'), 'utf8')).packages
  } catch {
    return false
  }
  for (const [path, wanted] of Object.entries(locked)) {
    if (!path.startsWith('node_modules/')) continue
    const found = installed[path]
    // Optional packages of other platforms are locked but never installed.
    if (
      found === undefined
        ? !wanted.optional && !wanted.devOptional && !wanted.peer
        : found.version !== wanted.version
    )
      return false
  }
  return true
}

/**
 * Installs the locked packages unless they are installed. If several processes find them missing, one installs them and
 * the others wait.
 *
 * @throws {SetupError} when npm fails.
 */
export async function ensureInstalled(root, log) {
  if (isInstalled(root)) return
  const release = await takeInstallLock(join(root, '.copal', 'install.lock'), log)
  try {
    if (isInstalled(root)) return
    log('Installing the locked packages (npm ci), 20 s to some minutes …')
    await npmCi(root)
    if (!isInstalled(root)) {
      throw new SetupError(
        'npm ci ended, but node_modules does not match package-lock.json. Remove node_modules and try again.',
      )
    }
  } finally {
    release()
  }
}

/**
 * Takes the lock at `path`, or waits until it is free. The lock of a process that is gone is removed.
 *
 * @returns what releases it
 */
async function takeInstallLock(path, log) {
  mkdirSync(dirname(path), { recursive: true })
  // Linked into place, so that no process reads a half-written lock.
  const draft = `${path}.${process.pid}`
  writeFileSync(draft, identityOf(process.pid))
  let waiting = false
  try {
    while (!linkIfFree(draft, path)) {
      const found = readFileIfExists(path)
      if (found === undefined) continue
      const holder = Number.parseInt(found, 10)
      if (!isAlive(holder) || identityOf(holder) !== found) {
        await removeAbandonedLock(path, found, log)
        continue
      }
      if (!waiting) log(`Another copal command (pid ${holder}) is installing the packages; waiting for it …`)
      waiting = true
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
  } finally {
    rmSync(draft, { force: true })
  }
  return () => rmSync(path, { force: true })
}

/**
 * Removes the lock at `path` if its content still equals `found`. Of several processes that judged it abandoned, one may
 * already hold it again, so checking and removing happen under a second lock that is named after the content.
 */
async function removeAbandonedLock(path, found, log) {
  const name = createHash('sha256').update(found).digest('hex').slice(0, 16)
  const release = await takeInstallLock(`${path}.${name}`, log)
  try {
    if (readFileIfExists(path) === found) rmSync(path)
  } finally {
    release()
  }
}

function linkIfFree(from, to) {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if (error.code === 'EEXIST') return false
    throw error
  }
}

function readFileIfExists(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT') return undefined
    throw error
  }
}

/** Returns the pid and, where the platform tells it, the start, which tells the process from a later one with its pid. */
function identityOf(pid) {
  return `${pid} ${statOf(pid)?.[19] ?? ''}`
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/**
 * Runs `npm ci` without scripts: the packages need none, and `npm start` and `npm test` build the addon themselves.
 *
 * It ends with this process. By itself npm goes on installing after Ctrl-C, for minutes, into the `node_modules` of the
 * next start.
 */
function npmCi(root) {
  const npm = npmCommand(process.env, process.platform)
  const child = spawn(process.execPath, [END_WITH_PARENT, ...npm, 'ci', '--ignore-scripts'], {
    cwd: root,
    detached: true,
    // Hides npm's summary, but not its errors.
    stdio: ['pipe', 'ignore', 'inherit'],
    env: { ...process.env, NODE_ENV: 'development' },
  })
  let endedBy
  const end = (signal) => {
    if (child.exitCode !== null || child.signalCode !== null) return
    endedBy = signal
    if (process.platform === 'win32' || child.pid === undefined) child.stdin.end()
    // At once, because npm has nothing to save: the next install begins anew.
    else process.kill(-child.pid, 'SIGKILL')
  }
  for (const signal of SIGNALS) process.on(signal, end)
  if (process.env.npm_lifecycle_event !== undefined) endWithNpm(() => end('SIGTERM'))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      for (const each of SIGNALS) process.off(each, end)
      if (endedBy !== undefined) reject(new EndedBySignal(endedBy))
      else if (code === 0) resolve()
      else
        reject(
          new SetupError(
            `npm ci failed (${signal ?? `exit code ${code}`}); its messages are above. It needs the npm registry and about 2 GB of disk.`,
          ),
        )
    })
  })
}

/**
 * Finds the Node that runs our TypeScript: the one among the packages, else the system's.
 *
 * @returns its path, and the variables that it needs
 * @throws {SetupError} when the system's is too old and there is no package for the platform
 */
export function findNode(root) {
  const packaged = join(root, 'node_modules', '.bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (existsSync(packaged)) return { path: packaged, env: {} }
  const version = parseVersion(process.versions.node)
  if (isOlder(version, OLDEST_SYSTEM_NODE)) {
    throw new SetupError(
      `copal needs Node ${OLDEST_SYSTEM_NODE.slice(0, 2).join('.')} or newer on ${process.platform}-${process.arch}, and this is ` +
        `${process.versions.node}. On Linux and Windows npm installs one; on this platform install a newer Node and try again.`,
    )
  }
  if (!isOlder(version, STRIPS_TYPES_SINCE)) return { path: process.execPath, env: {} }
  const options = [
    process.env.NODE_OPTIONS,
    '--experimental-strip-types',
    '--disable-warning=ExperimentalWarning',
  ]
  return { path: process.execPath, env: { NODE_OPTIONS: options.filter(Boolean).join(' ') } }
}

/** Returns how long a task may take to end after a signal before it is killed. */
export function longestEndMs(task, env) {
  return task === 'node' ? END_TIMEOUT_MS + Number(env.COPAL_GRACE_MS || NODE_GRACE_MS) : END_TIMEOUT_MS
}

/**
 * Runs one of our TypeScript files to its end and exits with its exit code. The file gets an IPC channel, which closes
 * when this process has ended in any way. `options` are those of Node.
 */
export function runTypeScript(root, file, args, { options = [], endTimeoutMs = END_TIMEOUT_MS } = {}) {
  const node = findNode(root)
  const bin = join(root, 'node_modules', '.bin')
  const delimiter = process.platform === 'win32' ? ';' : ':'
  const child = spawn(node.path, [...options, join(root, file), ...args], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: {
      // Half of the start of each Node process is compiling TypeScript and packages.
      NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'copal'),
      ...process.env,
      ...QUIET_ENVIRONMENT,
      ...node.env,
      PATH: `${bin}${delimiter}${process.env.PATH ?? ''}`,
    },
  })
  // A terminal sends Ctrl-C to the child as well; a supervisor signals only this process.
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      child.kill(signal)
      setTimeout(() => child.kill('SIGKILL'), endTimeoutMs).unref()
    })
  }
  child.once('error', (error) => {
    process.stderr.write(`copal: ${node.path} cannot be started: ${error.message}\n`)
    process.exit(1)
  })
  child.once('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
  if (process.env.npm_lifecycle_event !== undefined) endWithNpm(() => child.kill('SIGTERM'))
}

/**
 * Calls `end` when npm has ended. npm runs this process through a shell, which stays when npm is killed. So on Linux
 * the shell's parent is watched too; on other platforms only our own parent.
 */
function endWithNpm(end) {
  const shell = process.ppid
  const npm = parentOf(shell)
  const watched = nameOf(npm)?.startsWith('npm') ? npm : undefined
  const timer = setInterval(() => {
    if (process.ppid === shell && (watched === undefined || parentOf(shell) === watched)) return
    clearInterval(timer)
    end()
  }, 500)
  timer.unref()
}

/** Returns the parent of a process; `undefined` where the platform does not tell. */
function parentOf(pid) {
  const parent = statOf(pid)?.[1]
  return parent === undefined ? undefined : Number(parent)
}

/** Returns the fields of `/proc/<pid>/stat` after the name: the state, the parent and others. */
function statOf(pid) {
  const stat = readProc(pid, 'stat')
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
}

function nameOf(pid) {
  return pid === undefined ? undefined : readProc(pid, 'comm')
}

function readProc(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return undefined
  }
}

/**
 * Prints an error and exits with 1. A setup error is one line; any other error is a defect and keeps its stack. After a
 * signal it prints nothing and ends by that signal.
 */
export function exitWith(error) {
  if (error instanceof EndedBySignal) {
    process.kill(process.pid, error.signal)
    return
  }
  process.stderr.write(
    error instanceof SetupError ? `copal: ${error.message}\n` : `${error?.stack ?? error}\n`,
  )
  process.exit(1)
}
