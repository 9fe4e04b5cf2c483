import type { Command } from 'commander'
import { METHOD_NAMES, RULES } from '../../copal/methods/registry.ts'
import type { Session } from '../session.ts'

export function addMethods(program: Command, session: Session): void {
  program
    .command('methods')
    .description('list the pruning methods that this version knows')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) => {
      const rules = RULES.map(({ name, summary, datasets }) => ({ name, summary, datasets }))
      session.print(options.json, { rules, methods: METHOD_NAMES }, () => describe())
    })
}

function describe(): string {
  const widest = Math.max(...RULES.map(({ name }) => name.length))
  const rules = RULES.map(({ name, summary }) => `${name.padEnd(widest)}  ${summary}`)
  const fixed = RULES.filter(({ changesWeights }) => changesWeights).map(({ name }) => name)
  return [
    ...rules,
    '',
    `+swaps        exchanges kept and pruned weights while the output error falls; not after ${fixed.join(', ')}`,
    '+reconstruct  then solves for the surviving weights: the update brings new values, not only a mask',
    '',
    'Example: copal update legal --method continual-wanda+swaps+reconstruct',
  ].join('\n')
}
