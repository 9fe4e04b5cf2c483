import { Command } from 'commander'
import { machineLine } from './measurement/report.ts'
import { addEngine } from './commands/engine-command.ts'
import { addFront } from './commands/front-command.ts'
import { addGateway } from './commands/gateway-command.ts'
import { addGrammar } from './commands/grammar-command.ts'
import { addKernels } from './commands/kernels-command.ts'
import { addMemory } from './commands/memory-command.ts'
import { addRatio } from './commands/ratio-command.ts'
import { addService } from './commands/service-command.ts'
import { addSwaps } from './commands/swaps-command.ts'
import type { Workbench } from './commands/workbench.ts'

/**
 * The benchmarks, each a command; the machine is printed before one begins.
 *
 * @throws CommanderError of a command line that is wrong, or that asks for help; either is told already
 */
export function createBenchProgram(bench: Workbench): Command {
  const program = new Command('npm run bench --')
    .description(
      'What this costs on this machine. Everything that is compared is interleaved; figures are medians (minimum–maximum, n).',
    )
    .usage('[command] [options]')
    .helpCommand(false)
    .exitOverride()
    .showHelpAfterError('Run it with --help to see what it takes.')
    .addHelpText(
      'after',
      "\nWithout a command it is 'service'. COPAL_MODEL names another model than the default.",
    )
    .hook('preAction', () => bench.print(machineLine()))
  for (const add of [
    addService,
    addEngine,
    addKernels,
    addSwaps,
    addFront,
    addRatio,
    addMemory,
    addGrammar,
    addGateway,
  ]) {
    add(program, bench)
  }
  return program
}
