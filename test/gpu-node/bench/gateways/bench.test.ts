import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const SCRIPT = join(import.meta.dirname, '../../../../gpu-node/bench/main.ts')
/** Of a busy machine: the Worker is bundled and started. */
const LONGEST_MS = 240_000

test(
  'the built Worker answers JSON and streams of the benchmark, and it tells what it costs',
  async () => {
    const said = await bench('--rounds', '1', '--seconds', '0.2', '--connections', '2', '--bare')
    expect(said).not.toContain('FAILED')
    for (const unit of ['answers/s', 'streams/s'])
      for (const name of ['copal', 'bare Worker', 'bare Worker that asks an object'])
        expect(perSecond(said, name, unit), `${name}, ${unit} of:\n${said}`).toBeGreaterThan(0)
    expect(said).toMatch(/^copal, \d+ streams\/s, time to first token +p50 -?\d/m)
    expect(said).toContain('LiteLLM is not there: python3 -m venv')
  },
  LONGEST_MS,
)

test(
  'memory is told after each tenth of the requests',
  async () => {
    const said = await bench('--memory', '50', '--connections', '2')
    expect(said.match(/^after \d+ +\d+ MiB$/gm)).toHaveLength(11)
  },
  LONGEST_MS,
)

/** What it prints; nothing foreign is on its PATH. */
async function bench(...args: string[]): Promise<string> {
  const { HOME, TMPDIR, NODE_COMPILE_CACHE } = process.env
  const env = { PATH: '', HOME, TMPDIR, NODE_COMPILE_CACHE, WRANGLER_SEND_METRICS: 'false' }
  const { stdout } = await promisify(execFile)(process.execPath, [SCRIPT, 'gateway', ...args], { env })
  return stdout
}

function perSecond(said: string, name: string, unit: string): number {
  return Number(new RegExp(`^${name} +(\\d+) \\(.*${unit}`, 'm').exec(said)?.[1])
}
