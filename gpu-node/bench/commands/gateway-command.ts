import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { machineLine } from '../measurement/report.ts'
import { ROOT } from '../../../infra/local/toolchain/toolchain.mjs'
import { compare } from '../gateways/compare.ts'
import {
  startBareWorker,
  startLitellm,
  startPortkey,
  startUpstream,
  startWorker,
  type Contender,
} from '../gateways/contenders.ts'
import { compareSampling } from '../gateways/sampling-cost.ts'
import { findLitellm, findPortkey } from '../gateways/installed.ts'
import { watchMemory } from '../gateways/memory.ts'
import { count, positive, type Workbench } from './workbench.ts'

interface GatewayOptions {
  rounds: number
  seconds: number
  connections: number
  prompt?: number
  rate?: number
  against?: string
  bare?: true
  telemetry?: true
  portkey?: string
  litellm?: string
  memory?: number
  samples?: number
}

/** Adds the benchmark of our gateway beside others. */
export function addGateway(program: Command, bench: Workbench): void {
  program
    .command('gateway')
    .description(
      "throughput and added latency of our gateway, compared with calling its upstream directly and, if installed, with Portkey's gateway and LiteLLM",
    )
    .option('--rounds <n>', 'number of interleaved repetitions', count, 5)
    .option('--seconds <n>', 'duration of one measurement', positive, 3)
    .option('--connections <n>', 'open connections of the load', count, 16)
    .option('--rate <n>', 'instead, only compare latencies at this many requests a second', positive)
    .option('--prompt <characters>', 'length of the prompt (default: a few sentences)', count)
    .option(
      '--against <checkout>',
      'also measure the gateway of this checkout, whose packages must be installed',
    )
    .option(
      '--bare',
      'also measure Workers that only forward requests, one of them after calling a Durable Object: the cost of the runtime',
    )
    .option('--telemetry', 'also measure our gateway without telemetry: what spans of every request cost')
    .option('--portkey <folder>', 'where it is installed, if not on the PATH')
    .option('--litellm <virtual environment>', 'where it is installed, if not on the PATH')
    .option('--memory <requests>', 'instead, send this many requests and report the memory of workerd', count)
    .option(
      '--samples <per second>',
      'instead, report what sampling adds to a response, and the memory of workerd at this rate',
      count,
    )
    .action((options: GatewayOptions) => benchGateway(options, bench))
}

async function benchGateway(options: GatewayOptions, { home, print }: Workbench): Promise<void> {
  const path = process.env.PATH ?? ''
  const portkey = findPortkey(options.portkey || undefined, path)
  const litellm = findLitellm(options.litellm || undefined, path)
  const running: Contender[] = []
  const start = async (starting: Promise<Contender>): Promise<void> => void running.push(await starting)
  try {
    const upstream = await startUpstream()
    running.push(upstream)
    const ours = await startWorker({ name: 'copal', root: ROOT, dir: join(home, 'copal'), upstream })
    running.push(ours)
    if (options.samples !== undefined) {
      await compareSampling(ours, { ...options, samplesPerSecond: options.samples }, print)
      print(`\n${machineLine()}`)
      return
    }
    if (options.against !== undefined) {
      const root = resolve(options.against)
      await start(startWorker({ name: 'copal, other checkout', root, dir: join(home, 'other'), upstream }))
    }
    if (options.telemetry) {
      const dir = join(home, 'without-telemetry')
      await start(
        startWorker({ name: 'copal, without telemetry', root: ROOT, dir, upstream, telemetry: false }),
      )
    }
    if (options.bare) {
      for (const ask of [false, true])
        await start(startBareWorker({ ask, dir: join(home, `bare-${String(ask)}`), upstream }))
    }
    if (options.memory !== undefined) {
      for (const gateway of running.slice(1)) {
        await watchMemory(gateway, options.memory, options.connections, print)
      }
    } else {
      if ('found' in portkey) await start(startPortkey(portkey.found, home, upstream))
      else print(portkey.missing)
      if ('found' in litellm) await start(startLitellm(litellm.found, home, upstream))
      else print(litellm.missing)
      if (!(await compare(upstream, running.slice(1), options, print))) process.exitCode = 1
    }
    print(`\n${machineLine()}`)
  } finally {
    for (const one of running.toReversed()) await one.stop()
  }
}
