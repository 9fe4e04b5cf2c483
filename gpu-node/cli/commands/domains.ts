import type { Command } from 'commander'
import {
  deletedDomain,
  deletedSamples,
  type DeletedSamples,
  domainEntry,
  type DomainEntry,
  importedTexts,
} from '@copal/shared/wire/admin-domains.ts'
import { listAll } from '../api/list-all.ts'
import { counted, formatAge, formatCount, formatMask } from '@copal/gpu-node/platform/quantities.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { Session } from '../api/session.ts'
import { addMask } from './domains-mask.ts'
import { addProposals } from './domains-proposed.ts'
import { addRebuild } from './domains-rebuild.ts'
import { addReview } from './domains-review.ts'
import { addSet } from './domains-set.ts'
import { addYesOption, confirm } from '../input/confirm.ts'
import { readTextFile, splitIntoTexts } from '../input/text-file.ts'
import { createProgressBar } from '../output/progress-bar.ts'

/** About 900 English tokens: enough for one calibration sample, and short enough that a file gives many. */
const TEXT_CHARACTERS = 4000
/** Texts per request, so that a body stays below the gateway's limit. */
const TEXTS_PER_REQUEST = 100

/** The texts to delete are those that match every given field. */
interface DeleteOptions {
  key?: string
  tenant?: string
  request?: string
  yes?: boolean
}

export function addDomains(program: Command, session: Session): void {
  const domains = program
    .command('domains')
    .description('list domains and their sampled texts; import texts, delete domains')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal domains\n  npx copal domains import legal contracts.txt\n  npx copal domains delete legal',
    )
    .action(async ({ json }: { json?: boolean }) => {
      const entries = await listAll(session.client(), '/domains', domainEntry)
      session.print(json, entries, () => describe(entries, session))
    })

  domains
    .command('import')
    .description('add the texts of a file to a domain, as if they had been sampled')
    .argument('<name>', 'name of the domain: lower-case letters, digits, and - _ . inside')
    .argument('<file>', 'a UTF-8 text file; blank lines separate paragraphs')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal domains import legal contracts.txt')
    .action(async (name: string, file: string, _options: unknown, command: Command) => {
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      const text = readTextFile(file, session.terminal.cwd)
      const texts = splitIntoTexts(text, TEXT_CHARACTERS)
      await importAll(session, name, texts)
      session.print(
        json,
        { domain: name, texts: texts.length, characters: text.length },
        () =>
          `Imported ${counted(texts.length, 'text')} (${counted(text.length, 'character')}) into ${name}.`,
      )
    })

  const remove = domains
    .command('delete')
    .description(
      'delete a domain with all its sampled texts, or only the texts of a key, a tenant or a request',
    )
    .argument('<name>', 'the domain')
    .option('--key <id>', 'delete only the texts of this API key, including those that updates have frozen')
    .option('--tenant <name>', 'delete only the texts of this tenant, likewise')
    .option(
      '--request <id>',
      'delete only the texts of this request, the x-request-id of its response, likewise',
    )
  addYesOption(remove)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal domains delete legal\n  npx copal domains delete legal --key key_3f9c',
    )
    .action(async (name: string, { key, tenant, request, yes }: DeleteOptions, command: Command) => {
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      const filter = Object.entries({ key, tenant, request }).filter(([, value]) => value !== undefined)
      if (filter.length > 0) {
        const sources = filter.map(([source, value]) => `${source} ${value}`).join(' and ')
        await confirm(session.terminal, `delete the texts of ${sources} in the domain ${name}`, yes)
        const query = filter.map(([field, value]) => `${field}=${encodeURIComponent(value ?? '')}`).join('&')
        const path = `/domains/${encodeURIComponent(name)}/samples?${query}`
        const gone = await session.client().admin('DELETE', path, deletedSamples)
        const whose = filter.map(([, value]) => value).join(' and ')
        session.print(json, gone, () => describeDeleted(gone, whose))
        return
      }
      await confirm(session.terminal, `delete the domain ${name} with all its texts and statistics`, yes)
      const gone = await session
        .client()
        .admin('DELETE', `/domains/${encodeURIComponent(name)}`, deletedDomain)
      session.print(json, gone, () =>
        gone.deleted
          ? `Deleted ${name}.`
          : `A part of ${name} is left. The service deletes it within the next minutes, or when an update that reads it has ended.`,
      )
    })
  addProposals(domains, session)
  addReview(domains, session)
  addMask(domains, session)
  addRebuild(domains, session)
  addSet(domains, session)
}

/** Sends the texts, with a progress bar where that takes more than one request. */
async function importAll(session: Session, domain: string, texts: readonly string[]): Promise<void> {
  const bar = createProgressBar(session.terminal.stderr)
  const all = counted(texts.length, 'text')
  let sent = 0
  try {
    while (sent < texts.length) {
      if (texts.length > TEXTS_PER_REQUEST)
        bar.update(`Importing into ${domain}`, sent / texts.length, `${formatCount(sent)} of ${all}`)
      const part = texts.slice(sent, sent + TEXTS_PER_REQUEST)
      const path = `/domains/${encodeURIComponent(domain)}/texts`
      await session.client().admin('POST', path, importedTexts, { texts: part })
      sent += part.length
    }
  } catch (error) {
    if (sent === 0 || !(error instanceof UserError)) throw error
    const rest = `${formatCount(sent)} of ${all} were imported. Import the file again: they are not stored twice.`
    throw new UserError(error.code, `${error.message} ${rest}`, { cause: error })
  } finally {
    bar.end()
  }
}

/** Describes what was deleted. Finding nothing is no error: the id of a revoked key cannot be checked. */
function describeDeleted(
  { domain, deleted, deleted_frozen: frozen, pending }: DeletedSamples,
  whose: string,
): string {
  const rest = pending ? ' Further datasets are looked through within the next minutes.' : ''
  if (deleted + frozen === 0 && !pending)
    return `No texts of ${whose} were found in ${domain}. To list the keys that are not revoked: npx copal keys list`
  return `Deleted ${counted(deleted, 'sampled text')} and ${counted(frozen, 'frozen text')} of ${whose} from ${domain}.${rest}`
}

function describe(entries: DomainEntry[], session: Session): string {
  if (entries.length === 0) {
    return (
      'No domain has texts yet. Send requests with the header x-copal-sample: true, ' +
      'or run: npx copal domains import <name> <file>'
    )
  }
  const nowMs = Date.now()
  const ifCounted = (domain: DomainEntry, text: string) => (isUncounted(domain) ? '-' : text)
  const table = session.table(
    [
      { title: 'DOMAIN', value: (domain) => domain.name, shrinks: true },
      {
        title: 'SAMPLES',
        value: (domain) => ifCounted(domain, formatCount(domain.samples)),
        align: 'right',
      },
      {
        title: 'CHARACTERS',
        value: (domain) => ifCounted(domain, formatCount(domain.characters)),
        align: 'right',
      },
      { title: 'SEEN', value: (domain) => ifCounted(domain, formatCount(domain.seen)), align: 'right' },
      {
        title: 'HELD OUT',
        value: (domain) =>
          domain.holdout_frozen
            ? `${formatCount(domain.holdout_samples)} frozen`
            : ifCounted(domain, formatCount(domain.holdout_samples)),
        align: 'right',
      },
      { title: 'CALIBRATED', value: (domain) => formatCount(domain.calibrated_datasets), align: 'right' },
      { title: 'MASK', value: ({ own_mask: mask }) => (mask == null ? 'shared' : formatMask(mask)) },
      { title: 'OWNER', value: ({ owner }) => owner ?? 'shared' },
      { title: 'LAST', value: (domain) => ifCounted(domain, formatAge(domain.last_sample_at, nowMs)) },
    ],
    entries,
  )
  const uncounted = entries.filter(isUncounted).length
  if (uncounted === 0) return table
  return `${table}\nThe texts of ${counted(uncounted, 'domain')} (-) were not counted yet. The service counts them within minutes.`
}

/** Returns whether the texts of a domain were not counted yet, so that its numbers say nothing. */
function isUncounted({ counted_at: at }: DomainEntry): boolean {
  return at === null
}
