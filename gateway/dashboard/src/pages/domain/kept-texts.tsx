import { useState } from 'preact/hooks'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { Facts } from '../../components/facts.tsx'
import { Time } from '../../components/time.tsx'
import { countedEntry } from '../../data/counted-entry.ts'
import { formatCount } from '../../format/numbers.ts'
import { NewestTexts } from './newest-texts.tsx'

/** The kept texts of a domain: amount, age and owner. */
export function KeptTexts({ entry, showsTexts }: { entry: DomainEntry | undefined; showsTexts: boolean }) {
  const [isOpen, setOpen] = useState(false)
  if (!entry)
    return (
      <p class="soft">
        No text of it is kept. A key may have all of its requests sampled, or a request asks for it with the
        header <code>x-copal-sample: true</code>. Texts of requests that name no domain may be kept in another
        one, which was found for them.
      </p>
    )
  const counted = countedEntry(entry)
  const heldOut =
    entry.holdout_frozen || counted ? (entry.holdout_tokens ?? entry.holdout_samples) : undefined
  return (
    <>
      <Facts
        facts={[
          {
            label: 'Texts',
            value: formatCount(counted?.samples),
            title: `${formatCount(counted?.characters)} characters, redacted`,
          },
          { label: 'New', value: formatCount(counted?.new_samples), title: 'No update has taken them yet' },
          { label: 'Offered', value: formatCount(counted?.seen), title: 'Texts ever offered to the domain' },
          {
            label: entry.holdout_tokens === undefined ? 'Held-out texts' : 'Held-out tokens',
            value: formatCount(heldOut),
            title: 'Masks are judged on them, and never calibrated on them',
          },
          {
            label: 'Calibrated',
            value: formatCount(entry.calibrated_datasets),
            title: 'Datasets that count in a promoted mask',
          },
        ]}
      />
      <p class="soft chart-note">
        {entry.owner === null ? 'Shared by all tenants.' : `Only texts of tenant ${entry.owner} are kept.`}{' '}
        {typeof entry.holdout_version === 'number'
          ? `The held-out text is frozen, version ${entry.holdout_version}.`
          : 'The held-out text is not frozen yet.'}{' '}
        {counted ? (
          <>
            Last sample: <Time at={entry.last_sample_at} missing="none" />.
          </>
        ) : (
          'Its texts were not counted yet; that takes minutes.'
        )}
      </p>
      {showsTexts && (
        <details class="more" onToggle={(event) => setOpen(event.currentTarget.open)}>
          <summary>Newest texts, redacted</summary>
          {isOpen && <NewestTexts name={entry.name} />}
        </details>
      )}
    </>
  )
}
