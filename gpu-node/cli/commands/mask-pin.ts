import { InvalidArgumentError, type Command } from 'commander'
import { maskEntry } from '@copal/shared/wire/admin.ts'
import { modelQuery, parseMask } from '../input/mask-argument.ts'
import type { Session } from '../api/session.ts'

/** Adds `copal masks pin` and `unpin`. */
export function addMaskPin(masks: Command, session: Session): void {
  for (const [name, method, description, done] of [
    ['pin', 'PUT', 'keep the file of a mask, however old it is', 'is kept'],
    [
      'unpin',
      'DELETE',
      'let the file of a mask be deleted when nothing has used it for long',
      'is not pinned',
    ],
  ] as const) {
    masks
      .command(name)
      .description(description)
      .argument('<version>', 'a version like 3 or m3', parsePrunedMask)
      .option('--model <id>', 'which model, if the fleet serves several')
      .option('--json', 'print JSON')
      .addHelpText('after', `\nExample:\n  npx copal masks ${name} m3`)
      .action(async (version: number, _options: unknown, command: Command) => {
        const { json, model } = command.optsWithGlobals<{ json?: boolean; model?: string }>()
        const path = `/masks/${version}/pin${modelQuery(model)}`
        const mask = await session.client().admin(method, path, maskEntry)
        session.print(json, mask, () => `m${mask.version} ${done}.`)
      })
  }
}

/** @throws InvalidArgumentError for the dense model too, which has no file that could be deleted */
function parsePrunedMask(text: string): number {
  const version = parseMask(text)
  if (version === 0) throw new InvalidArgumentError('The dense model is always kept: it has no mask file.')
  return version
}
