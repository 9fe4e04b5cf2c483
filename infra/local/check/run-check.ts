import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../toolchain/toolchain.mjs'

/** A program and its arguments. */
export interface Command {
  command: string
  args: string[]
}

/**
 * Returns the command of a tool of `node_modules`: its script, run by this Node. Without a shell, Windows cannot start the batch file
 * that npm makes of it.
 *
 * @param from the package of the tool
 */
export function toolCommand(tool: string, args: readonly string[], from = tool): Command {
  const folder = join(ROOT, 'node_modules', from)
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    bin: Record<string, string>
  }
  return { command: process.execPath, args: [join(folder, bin[tool] ?? ''), ...args] }
}

/** Runs a check in the checkout, with its output on the terminal. Returns why it failed; undefined if it passed. */
export function runCheck({ command, args }: Command): string | undefined {
  const { status, signal, error } = spawnSync(command, args, {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (error) return `${command} cannot be started: ${error.message}`
  // A tool that is killed, such as for memory, has said nothing.
  if (signal) return `it was ended by ${signal}`
  return status === 0 ? undefined : 'see above'
}
