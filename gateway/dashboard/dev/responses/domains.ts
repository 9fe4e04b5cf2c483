import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { ProposalEntry } from '@copal/shared/wire/admin-proposals.ts'
import type { ReviewEntry } from '@copal/shared/wire/admin-review.ts'
import type { SampleEntry } from '@copal/shared/wire/admin-samples.ts'
import { ago, domainsOf, MODEL } from './service.ts'

/** Domains with their samples. */
export function domains(count: number): { data: DomainEntry[] } {
  return {
    data: domainsOf(count).map(({ name, share }, index) => ({
      name,
      samples: Math.round(2_000 * share) + 40,
      characters: Math.round(4_000_000 * share),
      new_samples: Math.round(300 * share),
      seen: Math.round(90_000 * share),
      holdout_samples: name === 'recipes' ? 1 : 64,
      holdout_tokens: name === 'recipes' ? 310 : 16_384,
      holdout_frozen: index < 4,
      holdout_version: index < 4 ? 3 : null,
      owner: name === 'medical-notes' ? 'clinic' : null,
      review_samples: name === 'support' ? 3 : 0,
      own_mask: name === 'legal' ? 15 : null,
      calibrated_datasets: index < 4 ? 5 - index : 0,
      last_sample_at: ago(3 + index * 40),
    })),
  }
}

/** The newest kept texts of a domain. */
export function samples(): { data: SampleEntry[] } {
  return {
    data: [
      'Good morning, you are speaking with [name]. How can I help you today?',
      'The line was silent, so I will call again at [time].',
    ].map((preview, index) => ({
      id: String(index).repeat(64),
      key: 'key_000003',
      tenant: 'default',
      side: 'pool' as const,
      taken: index === 1,
      characters: preview.length,
      preview,
      last_seen_at: ago(3 + index * 40),
    })),
  }
}

/** Texts that are set aside. */
export function review(): { data: ReviewEntry[] } {
  return {
    data: [4.91, 4.4, 4.02].map((nll, index) => ({
      id: String(index).repeat(64),
      key: 'key_4fa1',
      tenant: 'shop',
      side: index === 2 ? ('holdout' as const) : ('pool' as const),
      nll,
      characters: 812 + index * 200,
      preview:
        [
          'Sehr geehrte Damen und Herren, meine Bestellung [number] ist nicht angekommen. Bitte prüfen Sie den Stand.',
          '<script>alert(1)</script> is what the customer wrote into the form, and nothing else of use.',
          'lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore',
        ][index] ?? '',
    })),
  }
}

/** Proposed domains. */
export function proposals(): { data: ProposalEntry[] } {
  return {
    data: [
      {
        id: 'prop_1',
        model: MODEL,
        name: 'travel-booking',
        terms: ['flight', 'hotel', 'booking', 'check-in', 'luggage'],
        texts: 214,
        characters: 180_000,
        state: 'proposed',
        domain: null,
        preview: [
          'I need to move my flight from [date] to the next morning, and keep the seats.',
          'Does the hotel have a late check-in? We land at 23:40.',
        ],
        created_at: ago(700),
        updated_at: ago(30),
      },
      {
        id: 'prop_2',
        model: MODEL,
        name: 'poetry',
        terms: ['verse', 'rhyme', 'stanza'],
        texts: 61,
        characters: 40_000,
        state: 'proposed',
        domain: null,
        preview: ['Write a sonnet about the sea in November.'],
        created_at: ago(3_700),
        updated_at: ago(300),
      },
    ],
  }
}
