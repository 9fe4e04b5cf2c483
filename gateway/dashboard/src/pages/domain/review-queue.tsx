import type { ReviewEntry, SettledReview } from '@copal/shared/wire/admin-review.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Section } from '../../components/page.tsx'
import { useToast } from '../../components/toast.tsx'
import { toApiError } from '../../data/client.ts'
import { useClient, useResource } from '../../data/data.tsx'
import { review } from '../../data/endpoints.ts'
import { formatCount, formatNumber } from '../../format/numbers.ts'
import { useSession } from '../../session/session.tsx'

/** How much of a text its buttons name. */
const ABOUT_CHARACTERS = 40

/** Texts that are set aside, with their redacted beginnings. */
export function ReviewQueue({ name }: { name: string }) {
  const resource = useResource(review(name), 60_000)
  return (
    <Section title="Set aside for review" note="their loss is far from that of the others">
      <Loaded resource={resource}>
        {({ data }) => (
          <ul>
            {data.map((entry) => (
              <ReviewText key={`${entry.id} ${entry.key}`} name={name} entry={entry} />
            ))}
          </ul>
        )}
      </Loaded>
    </Section>
  )
}

function ReviewText({ name, entry }: { name: string; entry: ReviewEntry }) {
  const { send, refresh } = useClient()
  const toast = useToast()
  const { may_change: mayChange } = useSession()
  const settle = async (decision: 'keep' | 'drop') => {
    const path = `/admin/domains/${encodeURIComponent(name)}/review/${encodeURIComponent(entry.id)}/${decision}`
    await send<SettledReview>('POST', path)
    refresh('/admin/domains')
  }
  const keep = () => {
    settle('keep').then(
      () => toast('The text counts again.'),
      (cause: unknown) => toast(toApiError(cause).message, 'harm'),
    )
  }
  const about = entry.preview.slice(0, ABOUT_CHARACTERS)
  return (
    <li class="proposal">
      <div class="proposal-what">
        <blockquote>{entry.preview}</blockquote>
        <p class="soft chart-note">
          Perplexity {formatNumber(Math.exp(entry.nll))} under dense weights, {formatCount(entry.characters)}{' '}
          characters, of key {entry.key}, tenant {entry.tenant}
          {entry.side === 'holdout' ? ', held out' : ''}
        </p>
      </div>
      {mayChange && (
        <div class="proposal-actions">
          <button
            type="button"
            class="button button-plain button-small"
            aria-label={`Keep: ${about}`}
            onClick={keep}
          >
            Keep
          </button>
          <ConfirmButton
            label="Drop"
            about={about}
            small
            title="Delete this text?"
            consequences={['The text is deleted from the domain and cannot be restored.']}
            confirm="Delete it"
            act={() => settle('drop')}
            done="The text is deleted."
          />
        </div>
      )}
    </li>
  )
}
