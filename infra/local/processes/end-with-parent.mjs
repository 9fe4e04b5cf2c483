/**
 * `node leash.mjs <command> [arguments …]` runs a command in a process group of its own and ends the
 * whole group when standard input closes: when the process that holds the other end lets go of it, or
 * is gone, however it went. Wrangler leaves workerd behind when it is killed; a leash does not.
 *
 * The caller starts this file as the leader of a new process group (`detached: true`).
 */
import { spawn } from 'node:child_process'

const GRACE_MS = 4000

const [command, ...args] = process.argv.slice(2)
const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] })
let ending = false

child.once('error', (error) => {
  process.stderr.write(`${command} cannot be started: ${error.message}\n`)
  process.exitCode = 1
  killGroup('SIGKILL')
})
child.once('exit', (code) => {
  // Whatever the command left behind goes too; the caller kills what is still in the group after this process.
  if (ending) return killGroup('SIGKILL')
  killGroup('SIGTERM')
  process.exit(code ?? 1)
})

process.stdin.resume()
process.stdin.once('close', end)
process.stdin.once('error', end)
// The group's own signals are meant for the command.
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
