import { useState } from 'preact/hooks'
import type { ProposalEntry, SettledProposal } from '@copal/shared/wire/admin-proposals.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { SelectField, TextField } from '../../components/fields.tsx'
import { Time } from '../../components/time.tsx'
import { useClient } from '../../data/data.tsx'
import { formatCount, plural } from '../../format/numbers.ts'
import { useSession } from '../../session/session.tsx'

/** Domains that were found and wait for a decision. */
export function Proposals({
  proposals,
  domains,
}: {
  proposals: readonly ProposalEntry[]
  domains: readonly string[]
}) {
  const { may_change: mayChange } = useSession()
  if (proposals.length === 0) return <p class="soft">Nothing waits for a decision.</p>
  return (
    <ul>
      {proposals.map((proposal) => (
        <li key={proposal.id} class="proposal">
          <div class="proposal-what">
            <h3>{proposal.name}</h3>
            <p class="soft">
              {plural(proposal.texts, 'text')} of {formatCount(proposal.characters)} characters in all, last{' '}
              <Time at={proposal.updated_at} />. Words that set them apart: {proposal.terms.join(', ')}.
            </p>
            {proposal.preview.map((text) => (
              <blockquote key={text}>{text}</blockquote>
            ))}
          </div>
          {mayChange && <ProposalActions proposal={proposal} domains={domains} />}
        </li>
      ))}
    </ul>
  )
}

function ProposalActions({ proposal, domains }: { proposal: ProposalEntry; domains: readonly string[] }) {
  const { send, refresh } = useClient()
  const [name, setName] = useState(proposal.name)
  const [chosen, setChosen] = useState<string>()
  // The list may come after the proposals.
  const target = chosen ?? domains[0] ?? ''
  const settle = async (action: string, body: unknown) => {
    await send<SettledProposal>('POST', `/admin/proposals/${encodeURIComponent(proposal.id)}/${action}`, body)
    refresh('/admin/proposals', '/admin/domains')
  }
  const texts = plural(proposal.texts, 'text')
  return (
    <div class="proposal-actions">
      <ConfirmButton
        label="Name it"
        about={proposal.name}
        tone="plain"
        small
        title={`Make ${texts} a domain`}
        consequences={[
          `The ${texts} move to the new domain, and later texts of the kind go there. If all are of one tenant, it alone may use the domain.`,
          'A domain can be deleted again, with its texts.',
        ]}
        fields={
          <TextField
            label="Name of the domain"
            value={name}
            onInput={setName}
            hint="Lower-case letters, digits, and - _ . between them"
          />
        }
        isReady={/^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/.test(name)}
        confirm="Make it a domain"
        act={() => settle('accept', { name })}
        done={`${name} is a domain now.`}
      />
      {domains.length > 0 && (
        <ConfirmButton
          label="Merge"
          about={proposal.name}
          tone="plain"
          small
          title={`Merge ${texts} into a domain`}
          consequences={[
            `The ${texts} move into the domain that you choose, as far as their keys may use it; the others go to the defaults of their keys. They cannot be separated again.`,
          ]}
          fields={
            <SelectField
              label="Domain"
              value={target}
              options={domains.map((domain) => ({ value: domain, label: domain }))}
              onChange={setChosen}
            />
          }
          confirm={`Merge into ${target}`}
          act={() => settle('merge', { domain: target })}
          done={`The texts are in ${target} now.`}
        />
      )}
      <ConfirmButton
        label="Discard"
        about={proposal.name}
        small
        title={`Discard ${proposal.name}?`}
        consequences={[
          `The ${texts} are deleted and cannot be restored.`,
          'Later texts of the kind may be found and proposed again.',
        ]}
        confirm="Discard and delete"
        act={() => settle('discard', undefined)}
        done={`${proposal.name} is discarded.`}
      />
    </div>
  )
}
