import { type Command, Option } from 'commander'
import { reviewEntry, settledReview, type ReviewEntry } from '@copal/shared/wire/admin-review.ts'
import { counted } from '@copal/gpu-node/platform/quantities.ts'
import { listOf } from '../api/api-client.ts'
import type { Session } from '../api/session.ts'
import { addYesOption, confirm } from '../input/confirm.ts'
import { oneLine } from './domains-proposed.ts'

interface ReviewOptions {
  keep?: string
  drop?: string
  yes?: boolean
}

/** Adds `copal domains review`. */
export function addReview(domains: Command, session: Session): void {
  const review = domains
    .command('review')
    .description('list texts of a domain that are set aside as outliers; keep or drop one')
    .argument('<name>', 'the domain')
    .addOption(new Option('--keep <id>', 'put a text back for good').conflicts('drop'))
    .option('--drop <id>', 'delete a text')
  addYesOption(review)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal domains review legal\n  npx copal domains review legal --drop 3f9c…',
    )
    .action(async (name: string, { keep, drop, yes }: ReviewOptions, command: Command) => {
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      const path = `/domains/${encodeURIComponent(name)}/review`
      const id = keep ?? drop
      if (id === undefined) {
        const { data } = await session.client().admin('GET', path, listOf(reviewEntry))
        session.print(json, data, () => describe(data, name))
        return
      }
      const decision = keep === undefined ? 'drop' : 'keep'
      if (decision === 'drop')
        await confirm(session.terminal, `delete the text ${id} of the domain ${name}`, yes)
      const settled = await session
        .client()
        .admin('POST', `${path}/${encodeURIComponent(id)}/${decision}`, settledReview, {})
      session.print(json, settled, () => (decision === 'keep' ? `Kept ${id}.` : `Deleted ${id}.`))
    })
}

function describe(entries: ReviewEntry[], name: string): string {
  if (entries.length === 0) return `No text of ${name} is set aside.`
  // An id takes most of a line.
  return entries
    .map(
      ({ id, key, nll, characters, preview }) =>
        `${id}\n  ${key}, loss ${nll.toFixed(2)}, ${counted(characters, 'character')}\n  ${oneLine(preview)}`,
    )
    .join('\n')
}
