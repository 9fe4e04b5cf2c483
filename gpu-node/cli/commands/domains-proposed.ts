import type { Command } from 'commander'
import {
  proposalList,
  settledProposal,
  type ProposalEntry,
  type SettledProposal,
  type WaitingTexts,
} from '@copal/shared/wire/admin-proposals.ts'
import { counted, formatAge, formatCount } from '@copal/gpu-node/platform/quantities.ts'
import { addYesOption, confirm } from '../input/confirm.ts'
import { modelQuery } from '../input/mask-argument.ts'
import { printable } from '../output/table.ts'
import type { Session } from '../api/session.ts'

/** Characters of a text in the list. */
const SHOWN_CHARACTERS = 100

/** Adds `copal domains proposed`, `accept`, `merge` and `discard`. */
export function addProposals(domains: Command, session: Session): void {
  domains
    .command('proposed')
    .description('list domains that were found in texts without one, and wait for a decision')
    .option('--model <id>', 'only those found by this model')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal domains proposed\n  npx copal domains accept found_0123456789ab --name recipes',
    )
    .action(async ({ model }: { model?: string }, command: Command) => {
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      const path = `/proposals${modelQuery(model)}`
      const { data, waiting } = await session.client().admin('GET', path, proposalList)
      session.print(json, data, () =>
        data.length === 0 ? describeWaiting(waiting) : describe(data, session),
      )
    })

  domains
    .command('accept')
    .description('make a proposed domain one; its texts move there, and later ones of the kind go there')
    .argument('<id>', 'id of the proposal, see npx copal domains proposed')
    .option('--name <name>', 'name of the domain (default: the suggested one)')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal domains accept found_0123456789ab --name recipes')
    .action(async (id: string, { name }: { name?: string }, command: Command) => {
      const settled = await settle(session, id, 'accept', name === undefined ? {} : { name })
      print(session, command, settled, ({ domain, owner }) =>
        owner === null
          ? `Accepted as ${domain}, which keeps texts of all tenants.`
          : `Accepted as ${domain}, which keeps texts of the tenant ${owner} alone.`,
      )
    })

  domains
    .command('merge')
    .description('move the texts of a proposed domain into a domain')
    .argument('<id>', 'id of the proposal, see npx copal domains proposed')
    .argument('<domain>', 'the domain that gets the texts')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal domains merge found_0123456789ab legal')
    .action(async (id: string, domain: string, _options: unknown, command: Command) => {
      print(session, command, await settle(session, id, 'merge', { domain }), () => `Merged into ${domain}.`)
    })

  const discard = domains
    .command('discard')
    .description('discard a proposed domain and delete its texts')
    .argument('<id>', 'id of the proposal, see npx copal domains proposed')
  addYesOption(discard)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal domains discard found_0123456789ab')
    .action(async (id: string, { yes }: { yes?: boolean }, command: Command) => {
      await confirm(session.terminal, `delete the proposed domain ${id} with its texts`, yes)
      print(
        session,
        command,
        await settle(session, id, 'discard', {}),
        () => `Discarded ${id} and its texts.`,
      )
    })
}

function settle(
  session: Session,
  id: string,
  decision: 'accept' | 'merge' | 'discard',
  body: object,
): Promise<SettledProposal> {
  const path = `/proposals/${encodeURIComponent(id)}/${decision}`
  return session.client().admin('POST', path, settledProposal, body)
}

function print(
  session: Session,
  command: Command,
  settled: SettledProposal,
  describeIt: (settled: SettledProposal) => string,
): void {
  const { json } = command.optsWithGlobals<{ json?: boolean }>()
  session.print(json, settled, () => describeIt(settled))
}

/** Says why no domain is proposed. */
function describeWaiting(waiting: WaitingTexts | undefined): string {
  const { texts, read } = waiting ?? { texts: 0, read: 0 }
  const found =
    texts === 0
      ? ''
      : ` ${counted(texts, 'text')} ${texts === 1 ? 'fits' : 'fit'} into no domain, of which a node has read ${read}.`
  const rule =
    'Texts of keys that find domains are grouped once 24 of them fit into none and a node has read all.'
  return `No domain is proposed.${found} ${rule}`
}

function describe(proposals: ProposalEntry[], session: Session): string {
  const nowMs = Date.now()
  const table = session.table(
    [
      { title: 'PROPOSAL', value: ({ id }) => id },
      { title: 'NAME', value: ({ name }) => name, shrinks: true },
      { title: 'TEXTS', value: ({ texts }) => formatCount(texts), align: 'right' },
      { title: 'CHARACTERS', value: ({ characters }) => formatCount(characters), align: 'right' },
      { title: 'TERMS', value: ({ terms }) => terms.join(' '), shrinks: true },
      { title: 'FOUND', value: (proposal) => formatAge(proposal.created_at, nowMs) },
    ],
    proposals,
  )
  const previews = proposals.map(
    ({ id, preview }) =>
      `${id}, ${counted(preview.length, 'text')} of it:\n${preview.map((text) => `  ${oneLine(text)}`).join('\n')}`,
  )
  return `${table}\n\n${previews.join('\n')}`
}

/** Returns the beginning of a text on one line. */
export function oneLine(text: string): string {
  const line = printable(text.replaceAll(/\s+/g, ' ').trim())
  return line.length > SHOWN_CHARACTERS ? `${line.slice(0, SHOWN_CHARACTERS - 1).toWellFormed()}…` : line
}
