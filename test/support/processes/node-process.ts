import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { NodeMessage } from '../../../gpu-node/src/platform/supervisor.ts'

/** The program of a node. */
export const MAIN = fileURLToPath(new URL('../../../gpu-node/src/main.ts', import.meta.url))

/** A node as its supervisor runs it: a process with an IPC channel. */
export interface NodeProcess {
  readonly child: ChildProcess
  readonly pid: number
  readonly messages: NodeMessage[]
  /** Everything it printed. */
  output(): string
  /** Resolves with its message when the node serves. Rejects with its output when it ends before. */
  ready(): Promise<Extract<NodeMessage, { type: 'ready' }>>
  /** Ends the node and waits. Returns its exit code, null when a signal ended it. */
  end(signal?: NodeJS.Signals): Promise<number | null>
}

/** Starts `gpu-node/src/main.ts` with the given environment. It inherits only the paths of programs and caches. */
export function startNodeProcess(env: Record<string, string>): NodeProcess {
  const child = fork(MAIN, [], {
    env: { ...inherited(), ...env },
    execArgv: [],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    serialization: 'json',
  })
  const messages: NodeMessage[] = []
  let output = ''
  child.stdout?.on('data', (data: Buffer) => (output += data.toString()))
  child.stderr?.on('data', (data: Buffer) => (output += data.toString()))
  const ready = new Promise<Extract<NodeMessage, { type: 'ready' }>>((resolve, reject) => {
    child.on('message', (message: NodeMessage) => {
      messages.push(message)
      if (message.type === 'ready') resolve(message)
    })
    child.once('exit', (code, signal) =>
      reject(new Error(`the node ended (${signal ?? code}) before it was ready:\n${output}`)),
    )
  })
  ready.catch(() => undefined)
  return {
    child,
    get pid() {
      if (child.pid === undefined) throw new Error('the node did not start')
      return child.pid
    },
    messages,
    output: () => output,
    ready: () => ready,
    async end(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) {
        const exit = once(child, 'exit')
        child.kill(signal)
        await exit
      }
      return child.exitCode
    },
  }
}

function inherited(): Record<string, string> {
  const names = ['PATH', 'HOME', 'NODE_COMPILE_CACHE']
  return Object.fromEntries(names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])))
}
