/**
 * `npm run bench:gateway`: what our gateway carries and what it adds, beside its upstream asked directly and, where they
 * are installed, Portkey's gateway and LiteLLM. Everything is measured in turn; every figure is `median (min–max, n)`.
 *
 * `--rounds 5 --seconds 3 --connections 16` unless given; `--portkey <folder>` and `--litellm <virtual environment>`, or
 * COPAL_BENCH_PORTKEY and COPAL_BENCH_LITELLM, say where they are if not on the PATH.
 * `--against <checkout>` measures the gateway of another checkout too, which has its packages installed.
 * `--prompt 4096` sends prompts of so many characters.
 * `--memory 100000` sends so many requests instead, and tells the memory of workerd meanwhile.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { machineLine } from '../../gpu-node/bench/report.ts'
import { compare } from './bench/gateway/compare.ts'
import {
  startLitellm,
  startPortkey,
  startUpstream,
  startWorker,
  type Contender,
} from './bench/gateway/contenders.ts'
import { findLitellm, findPortkey } from './bench/gateway/installed.ts'
import { watchMemory } from './bench/gateway/memory.ts'
import { FLAGS, readOptions } from './bench/gateway/options.ts'
import { ROOT } from './toolchain.mjs'

const options = readOptions(parseArgs({ options: FLAGS }).values, process.env)
const path = process.env.PATH ?? ''
const portkey = findPortkey(options.portkey, path)
const litellm = findLitellm(options.litellm, path)

const dir = mkdtempSync(join(tmpdir(), 'copal-bench-gateway-'))
const running: Contender[] = []
try {
  print(machineLine())
  const upstream = await startUpstream()
  running.push(upstream)
  const start = async (starting: Promise<Contender>): Promise<void> => void running.push(await starting)
  await start(startWorker({ name: 'copal', root: ROOT, dir: join(dir, 'copal'), upstream }))
  if (options.against !== undefined) {
    const root = resolve(options.against)
    await start(startWorker({ name: 'copal, the other', root, dir: join(dir, 'other'), upstream }))
  }
  const [, ...ours] = running
  if (options.memory !== undefined) {
    for (const gateway of ours) await watchMemory(gateway, options.memory, options.connections, print)
  } else {
    if ('found' in portkey) await start(startPortkey(portkey.found, dir, upstream))
    else print(portkey.missing)
    if ('found' in litellm) await start(startLitellm(litellm.found, dir, upstream))
    else print(litellm.missing)
    if (!(await compare(upstream, running.slice(1), options, print))) process.exitCode = 1
  }
  print(`\n${machineLine()}`)
} finally {
  for (const one of running.toReversed()) await one.stop()
  rmSync(dir, { recursive: true, force: true })
}
if (process.connected) process.disconnect()

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}
