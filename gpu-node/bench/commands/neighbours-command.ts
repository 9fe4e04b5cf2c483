import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { ROOT } from '../../../infra/local/toolchain/toolchain.mjs'
import { startUpstream, startWorker, type Contender } from '../gateways/contenders.ts'
import { compareNeighbours } from '../gateways/neighbours.ts'
import { count, positive, type Workbench } from './workbench.ts'

/** Response time of the nodes: a short answer of the default model takes about as long. */
const RESPONSE_MS = 40

interface NeighboursOptions {
  rounds: number
  seconds: number
  connections: number
  unpaced?: true
  against?: string
  againstError: string
}

/** Adds the benchmark of what a good tenant notices of an attacker. */
export function addNeighbours(program: Command, bench: Workbench): void {
  program
    .command('neighbours')
    .description(
      'response times of a good tenant on our gateway without and with an attacker, by turns: about 4 minutes',
    )
    .option('--rounds <n>', 'number of interleaved repetitions', count, 4)
    .option('--seconds <n>', 'duration of one measurement', positive, 3)
    .option('--connections <n>', 'open connections of the attacker', count, 32)
    .option(
      '--unpaced',
      'also measure with COPAL_REFUSALS_PER_SECOND=0, which answers every refused request at once',
    )
    .option(
      '--against <checkout>',
      'also measure the gateway of this checkout, whose packages must be installed',
    )
    .option(
      '--against-error <code>',
      'how its nodes reject a tenant with too many schemas: `rate_limit_exceeded`, or `overloaded` in older versions',
      'overloaded',
    )
    .action((options: NeighboursOptions) => benchNeighbours(options, bench))
}

async function benchNeighbours(options: NeighboursOptions, { home, print }: Workbench): Promise<void> {
  const running: Contender[] = []
  try {
    const upstream = await startUpstream()
    running.push(upstream)
    const measure = async (
      name: string,
      root: string,
      schemaError: string,
      variables: Record<string, string> = {},
    ) => {
      const dir = join(home, `gateway-${running.length}`)
      const gateway = await startWorker({ name, root, dir, upstream, responseMs: RESPONSE_MS, variables })
      running.push(gateway)
      await compareNeighbours({ gateway, schemaError }, options, print)
    }
    if (options.against !== undefined)
      await measure('other checkout', resolve(options.against), options.againstError)
    const schemaError = 'rate_limit_exceeded response_format'
    if (options.unpaced)
      await measure('without pacing', ROOT, schemaError, { COPAL_REFUSALS_PER_SECOND: '0' })
    await measure('this checkout', ROOT, schemaError)
  } finally {
    for (const one of running.toReversed()) await one.stop()
  }
}
