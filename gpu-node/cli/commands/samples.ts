import type { Command } from 'commander'
import { deletedSamples, type DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import { counted } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addYesOption, confirm } from '../input/confirm.ts'
import { printableLines } from '../output/table.ts'

type Source = 'request' | 'key' | 'tenant'

type DeleteOptions = Partial<Record<Source, string>> & { json?: boolean; yes?: boolean }

/** Adds `copal samples`. */
export function addSamples(program: Command, session: Session): void {
  const samples = program
    .command('samples')
    .description('texts that were sampled: delete')
    .addHelpText('after', '\nExample:\n  npx copal samples delete --key key_0123456789abcdef')
  const remove = samples
    .command('delete')
    .description('delete the stored texts of a request, a key or a tenant in all domains')
    .option('--request <id>', 'texts of this request')
    .option('--key <id>', 'texts of this key')
    .option('--tenant <name>', 'texts of the keys of this tenant')
  addYesOption(remove)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal samples delete --request req_0123456789abcdef\n  npx copal samples delete --tenant acme',
    )
    .action(async ({ json, yes, ...sources }: DeleteOptions) => {
      if (Object.keys(sources).length === 0)
        remove.error('error: name what to delete, like --key key_0123456789abcdef')
      await confirm(session.terminal, deletionOf(sources), yes)
      const deleted = await deleteSamples(session, sources)
      session.print(json, deleted, () => describe(deleted, sources))
    })
}

/** Returns the deletion of stored texts in words, for {@link confirm}. */
export function deletionOf(sources: Partial<Record<Source, string>>): string {
  const whose = Object.entries(sources).map(([source, name]) => `${source} ${name}`)
  return `delete the stored texts of ${whose.join(' and ')} in all domains`
}

/** Deletes the stored texts of a key or tenant whose policy was changed, or says on stderr how to do it. */
export async function settleStoredTexts(
  session: Session,
  source: 'key' | 'tenant',
  name: string,
  wanted: boolean,
): Promise<void> {
  const sources = { [source]: name }
  const message = wanted
    ? describe(await deleteSamples(session, sources), sources)
    : `Texts that were sampled before stay. Delete them with: npx copal samples delete --${source} ${name}`
  session.terminal.stderr.write(`${printableLines(message)}\n`)
}

function deleteSamples(session: Session, sources: Partial<Record<Source, string>>): Promise<DeletedSamples> {
  const query = new URLSearchParams(sources).toString()
  return session.client().admin('DELETE', `/samples?${query}`, deletedSamples)
}

function describe(
  { domains, pending, kept }: DeletedSamples,
  sources: Partial<Record<Source, string>>,
): string {
  const lines = domains.map(
    ({ domain, deleted, deleted_frozen: frozen, masks }) =>
      `${domain}: deleted ${counted(deleted, 'text')} and ${counted(frozen, 'frozen text')}` +
      (masks.length > 0 ? `; these masks were chosen with them and stay: ${masks.join(', ')}` : ''),
  )
  const waiting = pending.map(({ domain, update }) =>
    update === null
      ? `${domain}: further texts are looked through within the next minutes.`
      : `${domain}: frozen texts may be left, because update ${update} reads them. They are deleted when it has ended.`,
  )
  const left = kept.map(
    ({ domain, datasets }) =>
      `${domain}: statistics of ${counted(datasets, 'dataset')} stay, whose texts have expired; whether such texts were among ` +
      `them is not known. To make them anew: npx copal domains rebuild ${domain}`,
  )
  const found = [...lines, ...waiting]
  const names = Object.entries(sources).map(([source, name]) => `${source} '${name}'`)
  return [...(found.length > 0 ? found : [`No text of ${names.join(' and ')} is stored.`]), ...left].join(
    '\n',
  )
}
