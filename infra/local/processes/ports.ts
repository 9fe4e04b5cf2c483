import { randomInt } from 'node:crypto'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { argumentsOf, commandLine, parentOf } from '../../../gpu-node/src/platform/process-identity.ts'
import { StartError } from './start-error.ts'

/**
 * Makes sure that a loopback port is free.
 *
 * @param patienceMs how long to wait for the processes of a killed service to release it
 * @throws StartError that names the process using the port, where the platform tells it; AbortError
 */
export async function requireFreePort(
  port: number,
  variable: string,
  patienceMs: number,
  signal?: AbortSignal,
): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += 100) {
    const code = await tryListening(port)
    if (code === undefined) return
    if (code === 'EACCES')
      throw new StartError(`You are not allowed to use port ${port}. Set ${variable} to another port.`)
    if (waitedMs >= patienceMs) {
      const owner = findOwner(port)
      throw new StartError(
        `Port ${port} is in use${owner ? ` by ${owner}` : ''}. Stop it, or set ${variable} to another port.`,
      )
    }
    await sleep(100, undefined, { signal })
  }
}

/** Returns `port` when nothing listens on it, else any free loopback port. */
export async function preferredPort(port: number): Promise<number> {
  return (await tryListening(port)) === undefined ? port : freePort()
}

/**
 * Returns a loopback port that nothing listens on now. It is below those that systems give to outgoing connections (from
 * 32768 on Linux), one of which could take it before it is used.
 *
 * @throws Error when none is found
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = randomInt(10_240, 32_768)
    if ((await tryListening(port)) === undefined) return port
  }
  throw new Error('no loopback port from 10240 to 32767 is free')
}

function tryListening(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'unknown'))
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(undefined)))
  })
}

/** The scripts with which a person starts a service, as `bootstrap.mjs start` or by themselves. */
const STARTING_SCRIPT = /(^|\/)infra\/local\/(bootstrap\.mjs (start|dev|node)|start\/(start|dev)\.ts)( |$)/

/**
 * Returns `pid 123 (command line)` of the process listening on a port, from the kernel's tables; only on Linux. Of a copal
 * service it is the process that a person has started: it would start the listening one again.
 */
function findOwner(port: number): string | undefined {
  const listening = findListener(port)
  if (listening === undefined) return undefined
  let pid = listening
  for (let at: number | undefined = listening; at !== undefined && at > 1; at = parentOf(at))
    if (STARTING_SCRIPT.test(argumentsOf(at).join(' '))) pid = at
  const command = commandLine(pid)
  return command ? `pid ${pid} (${command})` : `pid ${pid}`
}

function findListener(port: number): number | undefined {
  const inode = findListeningInode(port)
  if (inode === undefined) return undefined
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (openFiles(pid).includes(`socket:[${inode}]`)) return Number(pid)
  }
  return undefined
}

function findListeningInode(port: number): string | undefined {
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0')
  const LISTEN = '0A'
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    let rows: string[]
    try {
      rows = readFileSync(table, 'utf8').split('\n').slice(1)
    } catch {
      continue
    }
    for (const row of rows) {
      const fields = row.trim().split(/\s+/)
      if (fields[1]?.endsWith(`:${hexPort}`) && fields[3] === LISTEN) return fields[9]
    }
  }
  return undefined
}

/** Returns the targets of the open files of a process; none when it belongs to another user. */
function openFiles(pid: string): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((file) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${file}`)]
      } catch {
        return []
      }
    })
  } catch {
    return []
  }
}
