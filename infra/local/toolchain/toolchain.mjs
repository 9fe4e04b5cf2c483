/**
 * What must be true before any TypeScript runs: the locked packages are installed and a Node that
 * runs our code is at hand. Plain JavaScript without dependencies, because it runs on the system's
 * Node (20 or newer) before anything is installed.
 */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A task that has not ended so long after a signal is stuck. */
const LONGEST_END_MS = 25_000
/** What a node gives its running requests before that, unless COPAL_GRACE_MS says otherwise (`gpu-node/src/settings.ts`). */
const NODE_GRACE_MS = 30_000

/** The checkout. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..')

/** Wrangler needs it; the packages `node-<platform>` bring a newer one where they exist. */
const OLDEST_SYSTEM_NODE = [22, 12, 0]
/** From here on Node strips types without a flag. */
const STRIPS_TYPES_SINCE = [22, 18, 0]

/** Tools that would otherwise report to their makers, or ask questions, are told not to. */
export const QUIET_ENVIRONMENT = {
  WRANGLER_SEND_METRICS: 'false',
  CLOUDFLARE_CF_FETCH_ENABLED: 'false',
  WRANGLER_HIDE_BANNER: 'true',
  DO_NOT_TRACK: '1',
  HF_HUB_DISABLE_TELEMETRY: '1',
  PIP_DISABLE_PIP_VERSION_CHECK: '1',
  NO_UPDATE_NOTIFIER: '1',
}

/** A failure that is the user's to mend: shown as one line, without a stack. */
export class SetupError extends Error {}

/** `[22, 12, 0]` of `22.12.0`. */
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
 * Whether every package of `package-lock.json` is installed at its locked version, as npm's own
 * record of `node_modules` says. npm writes that record last, so an interrupted install has none.
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
 * Installs the locked packages unless they are installed already. Of several processes that find
 * them missing one installs and the others wait.
 *
 * @throws {SetupError} when npm fails.
 */
export async function ensureInstalled(root, log) {
  if (isInstalled(root)) return
  const release = await takeInstallLock(join(root, '.copal', 'install.lock'), log)
  try {
    if (isInstalled(root)) return
    log('Installing the locked packages (npm ci), about 20 s …')
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

async function takeInstallLock(path, log) {
  mkdirSync(dirname(path), { recursive: true })
  let waiting = false
  for (;;) {
    try {
      const file = openSync(path, 'wx')
      writeSync(file, String(process.pid))
      closeSync(file)
      return () => rmSync(path, { force: true })
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    const holder = readLockHolder(path)
    if (holder !== undefined && !isAlive(holder)) {
      rmSync(path, { force: true })
      continue
    }
    if (!waiting)
      log(`Another copal command (pid ${holder ?? 'unknown'}) is installing the packages; waiting for it …`)
    waiting = true
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

/** `undefined` while the holder has not written its pid yet, or has just let go. */
function readLockHolder(path) {
  try {
    const pid = Number.parseInt(readFileSync(path, 'utf8'), 10)
    return Number.isNaN(pid) ? undefined : pid
  } catch {
    return undefined
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** Without scripts: the packages need none, and ours builds the addon, which start and test do when it suits them. */
function npmCi(root) {
  const args = ['ci', '--ignore-scripts']
  // Under `npm start` and `npx` the running npm names itself; otherwise the one on the PATH.
  const cli = process.env.npm_execpath
  const useCli = cli !== undefined && /npm-cli\.[cm]?js$/.test(cli)
  const child = useCli
    ? spawn(process.execPath, [cli, ...args], npmOptions(root, false))
    : spawn('npm', args, npmOptions(root, process.platform === 'win32'))
  return new Promise((resolve, reject) => {
    child.once('error', (error) =>
      reject(new SetupError(`npm cannot be started: ${error.message}. Install npm and try again.`)),
    )
    child.once('exit', (code) => {
      if (code === 0) resolve()
      else
        reject(
          new SetupError(
            `npm ci failed (exit code ${code}); its messages are above. It needs the npm registry and about 1 GB of disk.`,
          ),
        )
    })
  })
}

function npmOptions(root, shell) {
  // npm's own summary is noise here; its errors are not.
  return {
    cwd: root,
    shell,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, NODE_ENV: 'development' },
  }
}

/**
 * The Node that runs our TypeScript: the one that came with the packages, else the system's.
 *
 * @returns its path, and what it needs in its environment.
 * @throws {SetupError} when the system's is too old and the platform has no packaged one.
 */
export function findNode(root) {
  const packaged = join(root, 'node_modules', '.bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (existsSync(packaged)) return { path: packaged, env: {} }
  const version = parseVersion(process.versions.node)
  if (isOlder(version, OLDEST_SYSTEM_NODE)) {
    throw new SetupError(
      `copal needs Node ${OLDEST_SYSTEM_NODE.slice(0, 2).join('.')} or newer on ${process.platform}-${process.arch}, and this is ` +
        `${process.versions.node}. Linux and Windows get theirs from npm; here install a newer Node and try again.`,
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

/** How long a task may take to end after a signal, before it is killed. */
export function longestEndMs(task, env) {
  return task === 'node' ? LONGEST_END_MS + Number(env.COPAL_GRACE_MS || NODE_GRACE_MS) : LONGEST_END_MS
}

/**
 * Runs one of our TypeScript files to its end and exits as it did. The file gets an IPC channel,
 * whose closing tells it that this process is gone, however it went.
 */
export function runTypeScript(root, file, args, mostMs = LONGEST_END_MS) {
  const node = findNode(root)
  const bin = join(root, 'node_modules', '.bin')
  const delimiter = process.platform === 'win32' ? ';' : ':'
  const child = spawn(node.path, [join(root, file), ...args], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: {
      ...process.env,
      ...QUIET_ENVIRONMENT,
      ...node.env,
      PATH: `${bin}${delimiter}${process.env.PATH ?? ''}`,
    },
  })
  // A terminal sends Ctrl-C to the child as well; a supervisor signals only this process.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      child.kill(signal)
      setTimeout(() => child.kill('SIGKILL'), mostMs).unref()
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
 * npm runs us through a shell and waits for both. When it is killed the shell stays, so on Linux the
 * shell's parent is watched too; elsewhere only ours.
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

/** The parent of a process; `undefined` where the platform does not say. */
function parentOf(pid) {
  const stat = readProc(pid, 'stat')
  return stat === undefined ? undefined : Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
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

/** Ends this process with a setup error's one line; anything else is a defect and keeps its stack. */
export function exitWith(error) {
  process.stderr.write(
    error instanceof SetupError ? `copal: ${error.message}\n` : `${error?.stack ?? error}\n`,
  )
  process.exit(1)
}
