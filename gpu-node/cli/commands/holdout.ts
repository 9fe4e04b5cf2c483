import type { Command } from 'commander'
import { generalHoldout, type GeneralHoldout } from '@copal/shared/wire/admin-holdout.ts'
import { counted, formatAge } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addYesOption, confirm } from '../input/confirm.ts'
import { readTextFile, splitIntoTexts } from '../input/text-file.ts'

const TEXT_CHARACTERS = 4000

export function addHoldout(program: Command, session: Session): void {
  const holdout = program
    .command('holdout')
    .description('the general holdout, your own text that every new mask is judged on: set, show, delete')
    .addHelpText('after', '\nExamples:\n  npx copal holdout set general.txt\n  npx copal holdout show')

  holdout
    .command('set')
    .description('judge new masks on the text of a file too; it should be in no domain')
    .argument('<file>', 'a UTF-8 text file, about 4 KB to 128 KB; blank lines separate paragraphs')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal holdout set general.txt')
    .action(async (file: string, { json }: { json?: boolean }) => {
      const texts = splitIntoTexts(readTextFile(file, session.terminal.cwd), TEXT_CHARACTERS)
      const stored = await session.client().admin('PUT', '/holdout', generalHoldout, { texts })
      session.print(json, stored, () => describe(stored))
    })

  holdout
    .command('show')
    .description('show the size and version of the general holdout')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal holdout show')
    .action(async ({ json }: { json?: boolean }) => {
      const stored = await session.client().admin('GET', '/holdout', generalHoldout)
      session.print(json, stored, () => describe(stored))
    })

  const remove = holdout
    .command('delete')
    .description('delete the general holdout with all its versions and what was measured on them')
  addYesOption(remove)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal holdout delete')
    .action(async ({ json, yes }: { json?: boolean; yes?: boolean }) => {
      const deed = 'delete the general holdout with all its versions and what was measured on them'
      await confirm(session.terminal, deed, yes)
      const gone = await session.client().admin('DELETE', '/holdout', generalHoldout)
      session.print(json, gone, () => 'Deleted the general holdout.')
    })
}

function describe({ holdout }: GeneralHoldout): string {
  if (!holdout) return 'There is no general holdout. Set one with: npx copal holdout set <file>'
  const { version, texts, characters, tokens, created_at: createdAt } = holdout
  return (
    `General holdout, version ${version}: ${counted(texts, 'text')}, ${counted(characters, 'character')} ` +
    `(about ${counted(tokens, 'token')}), set ${formatAge(createdAt, Date.now())}.`
  )
}
