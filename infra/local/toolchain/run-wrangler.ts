import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { QUIET_ENVIRONMENT, ROOT } from './toolchain.mjs'

/** The result of a run of Wrangler. */
export interface WranglerRun {
  exitCode: number
  /** Its output; empty when it wrote to the terminal itself. */
  output: string
}

/**
 * Runs the pinned Wrangler in the root of a checkout (by default this one), without sending usage data.
 *
 * @param terminal whether it writes to the terminal; otherwise its output is returned
 */
export async function runWrangler(
  args: readonly string[],
  { terminal, root = ROOT }: { terminal: boolean; root?: string },
): Promise<WranglerRun> {
  const script = join(root, 'node_modules', 'wrangler', 'bin', 'wrangler.js')
  const child = spawn(process.execPath, [script, ...args], {
    cwd: root,
    env: { ...process.env, ...QUIET_ENVIRONMENT },
    stdio: terminal ? 'inherit' : ['ignore', 'pipe', 'pipe'],
  })
  const [output, errors, [exitCode]] = await Promise.all([
    child.stdout ? text(child.stdout) : '',
    child.stderr ? text(child.stderr) : '',
    once(child, 'exit') as Promise<[number | null]>,
  ])
  return { exitCode: exitCode ?? 1, output: output + errors }
}
