/** Entry point of the `copal` command. */
import { join } from 'node:path'
import { interruptionOfProcess } from '@copal/gpu-node/platform/interruption.ts'
import { askLine } from './input/ask-line.ts'
import { runCommand } from './program.ts'

const signal = interruptionOfProcess()
// `copal … | head` closes the output early, which is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

const ask = (question: string) => askLine(question, { input: process.stdin, output: process.stderr, signal })

// npm runs scripts in the checkout, but file names are relative to the user's folder.
const startedByScript = process.env.npm_lifecycle_event === 'copal'
const code = await runCommand(process.argv.slice(2), {
  env: process.env,
  cwd: (startedByScript && process.env.INIT_CWD) || process.cwd(),
  root: join(import.meta.dirname, '..', '..'),
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  ...(process.stdin.isTTY && process.stderr.isTTY ? { ask } : {}),
  signal,
})
process.exitCode = code
if (process.connected) process.disconnect()
