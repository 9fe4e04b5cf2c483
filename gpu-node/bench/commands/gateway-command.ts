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
import { findLitellm, findPortkey } from '../gateways/installed.ts'
import { watchMemory } from '../gateways/memory.ts'
import { count, positive, type Workbench } from './workbench.ts'

interface GatewayOptions {
  rounds: number
  seconds: number
  connections: number
  prompt?: number
  against?: string
  bare?: true
  portkey?: string
  litellm?: string
  memory?: number
}

export function addGateway(program: Command, bench: Workbench): void {
  program
    .command('gateway')
    .description(
      "what our gateway carries and adds, beside its upstream asked directly and, where they are installed, Portkey's gateway and LiteLLM",
    )
    .option('--rounds <n>', 'of everything, in turn', count, 5)
    .option('--seconds <n>', 'of one measurement', positive, 3)
    .option('--connections <n>', 'that the load keeps open', count, 16)
    .option('--prompt <characters>', 'of the prompt; a few sentences unless given', count)
    .option('--against <checkout>', 'measures its gateway too; it has its packages installed')
    .option(
      '--bare',
      'measures Workers too that only pass requests on, one of them after asking a Durable Object: what the runtime carries',
    )
    .option('--portkey <folder>', 'where it is, if not on the PATH')
    .option('--litellm <virtual environment>', 'where it is, if not on the PATH')
    .option('--memory <requests>', 'sends so many instead, and tells the memory of workerd meanwhile', count)
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
    await start(startWorker({ name: 'copal', root: ROOT, dir: join(home, 'copal'), upstream }))
    if (options.against !== undefined) {
      const root = resolve(options.against)
      await start(startWorker({ name: 'copal, the other', root, dir: join(home, 'other'), upstream }))
    }
    if (options.bare) {
      for (const ask of [false, true])
        await start(startBareWorker({ ask, root: ROOT, dir: join(home, `bare-${String(ask)}`), upstream }))
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
