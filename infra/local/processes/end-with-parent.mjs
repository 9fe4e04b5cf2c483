/**
 * `node end-with-parent.mjs <command> [arguments …]` runs a command in a process group of its own and ends the whole
 * group when standard input closes, that is when its parent closes the pipe or has ended in any way. A gateway that is
 * killed by itself leaves workerd behind. Messages of the parent, if it has a channel, are passed on to the command.
 *
 * The caller starts this file as the leader of a new process group (`detached: true`).
 */
import { spawn } from 'node:child_process'

const GRACE_MS = 4000

const [command, ...args] = process.argv.slice(2)
const stdio = ['ignore', 'inherit', 'inherit', ...(process.channel ? ['ipc'] : [])]
const child = spawn(command, args, { stdio })
let ending = false

child.once('error', (error) => {
  process.stderr.write(`${command} cannot be started: ${error.message}\n`)
  process.exitCode = 1
  killGroup('SIGKILL')
})
child.once('exit', (code) => {
  // Also ends processes that the command left behind. The caller kills any that survive this process.
  if (ending) return killGroup('SIGKILL')
  killGroup('SIGTERM')
  process.exit(code ?? 1)
})

process.on('message', (message) => {
  if (child.connected) child.send(message, () => undefined)
})
process.stdin.resume()
process.stdin.once('close', end)
process.stdin.once('error', end)
// Signals to the group are meant for the command.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined)

function end() {
  if (ending) return
  ending = true
  killGroup('SIGTERM')
  setTimeout(() => killGroup('SIGKILL'), GRACE_MS)
}

function killGroup(signal) {
  if (process.platform === 'win32') {
    spawn('taskkill', ['/pid', String(child.pid), '/T', '/F'], { stdio: 'ignore' })
    return
  }
  process.kill(-process.pid, signal)
}
