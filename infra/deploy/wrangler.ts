import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { QUIET_ENVIRONMENT, ROOT } from '../local/toolchain/toolchain.mjs'

/** How a run of Wrangler ended. */
export interface WranglerRun {
  exitCode: number
  /** What it wrote; empty where the terminal was given to it. */
  output: string
}

/**
 * Runs the pinned Wrangler in the root of a checkout, this one unless another is given; it sends no usage data.
 *
 * @param terminal whether it talks to the user itself, or its output is returned
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
