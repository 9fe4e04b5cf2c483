import type { Command } from 'commander'
import { METHOD_NAMES, RULES } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import type { Session } from '../api/session.ts'

export function addMethods(program: Command, session: Session): void {
  program
    .command('methods')
    .description('list the pruning methods of this version')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal methods\n  npx copal update legal --method continual-wanda+swaps+reconstruct',
    )
    .action((options: { json?: boolean }) => {
      const rules = RULES.map(({ name, summary, datasets }) => ({ name, summary, datasets }))
      session.print(options.json, { rules, methods: METHOD_NAMES }, () => describe())
    })
}

function describe(): string {
  const widest = Math.max(...RULES.map(({ name }) => name.length))
  const rules = RULES.map(({ name, summary }) => `${name.padEnd(widest)}  ${summary}`)
  return [
    ...rules,
    '',
    'Suffixes, in this order:',
    '+allocated    distributes the ratio over linears by what pruning each one costs',
    "+rows         distributes a linear's ratio over rows by what their errors cost",
    '+swaps        exchanges kept and pruned weights while the output error falls',
    '+reconstruct  solves for new values of the kept weights',
    '+int4         rounds these values to codes of int4 (only with +reconstruct)',
    '',
    'All combinations: npx copal methods --json',
  ].join('\n')
}
