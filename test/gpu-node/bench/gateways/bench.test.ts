import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const SCRIPT = join(import.meta.dirname, '../../../../gpu-node/bench/main.ts')
/** Generous for a busy machine: the Worker is bundled and started. */
const TIMEOUT_MS = 600_000

// At once: the second rests 2 s after each tenth of its requests.
test.concurrent(
  'the built Worker responds to every request of the benchmark, which reports its throughput',
  async () => {
    const said = await bench('--rounds', '1', '--seconds', '0.2', '--connections', '2', '--bare')
    expect(said).not.toContain('FAILED')
    for (const unit of ['responses/s', 'streams/s'])
      for (const name of ['copal', 'bare Worker', 'bare Worker with a Durable Object'])
        expect(perSecond(said, name, unit), `${name}, ${unit} of:\n${said}`).toBeGreaterThan(0)
    expect(said).toMatch(/^copal, \d+ streams\/s, time to first token +p50 -?\d/m)
    expect(said).toContain('LiteLLM is not installed. To measure it: python3 -m venv')
  },
  TIMEOUT_MS,
)

test.concurrent(
  'memory is reported after each tenth of the requests',
  async () => {
    const said = await bench('--memory', '50', '--connections', '2')
    expect(said.match(/^after \d+ +\d+ MiB$/gm)).toHaveLength(11)
  },
  TIMEOUT_MS,
)

/** Returns the output of the benchmark; no other gateway is on its PATH. */
async function bench(...args: string[]): Promise<string> {
  const { HOME, TMPDIR, NODE_COMPILE_CACHE } = process.env
  const env = { PATH: '', HOME, TMPDIR, NODE_COMPILE_CACHE, WRANGLER_SEND_METRICS: 'false' }
  const { stdout } = await promisify(execFile)(process.execPath, [SCRIPT, 'gateway', ...args], { env })
  return stdout
}

function perSecond(said: string, name: string, unit: string): number {
  return Number(new RegExp(`^${name} +(\\d+) \\(.*${unit}`, 'm').exec(said)?.[1])
}
