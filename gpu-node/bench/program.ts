import { Command } from 'commander'
import { machineLine } from './measurement/report.ts'
import { addContexts } from './commands/contexts-command.ts'
import { addEngine } from './commands/engine-command.ts'
import { addFront } from './commands/front-command.ts'
import { addGateway } from './commands/gateway-command.ts'
import { addGpu } from './commands/gpu-command.ts'
import { addGrammar } from './commands/grammar-command.ts'
import { addKernels } from './commands/kernels-command.ts'
import { addMemory } from './commands/memory-command.ts'
import { addNeighbours } from './commands/neighbours-command.ts'
import { addReceipts } from './commands/receipts-command.ts'
import { addRatio } from './commands/ratio-command.ts'
import { addScoring } from './commands/scoring-command.ts'
import { addDrafts } from './commands/drafts-command.ts'
import { addService } from './commands/service-command.ts'
import { addSwaps } from './commands/swaps-command.ts'
import { addTelemetry } from './commands/telemetry-command.ts'
import type { Workbench } from './commands/workbench.ts'

/**
 * Creates the command line of the benchmarks. It prints the machine before a benchmark begins.
 *
 * @throws CommanderError when parsing a wrong command line or a request for help; Commander has printed it already
 */
export function createBenchProgram(bench: Workbench): Command {
  const program = new Command('npm run bench --')
    .description(
      'Measures speed and memory on this machine. Compared variants are interleaved; results are medians (minimum–maximum, n).',
    )
    .usage('[command] [options]')
    .helpCommand(false)
    .exitOverride()
    .showHelpAfterError('Run it with --help to see its options.')
    .addHelpText(
      'after',
      "\nThe default command is 'service'. COPAL_MODEL names a model other than the default one.",
    )
    .hook('preAction', () => bench.print(machineLine()))
  for (const add of [
    addService,
    addEngine,
    addKernels,
    addGpu,
    addSwaps,
    addScoring,
    addDrafts,
    addContexts,
    addTelemetry,
    addFront,
    addRatio,
    addMemory,
    addGrammar,
    addGateway,
    addNeighbours,
    addReceipts,
  ]) {
    add(program, bench)
  }
  return program
}
