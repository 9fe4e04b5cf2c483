import { describe, expect, test } from 'vitest'
import { redact } from '../../../../gateway/src/adaptation/redaction/redact.ts'

const PEM = '-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----'
const JWT = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U'

describe('personal data and credentials are replaced', () => {
  test.each([
    ['Write to jane.doe+news@mail.example.co.uk today.', 'Write to [email] today.'],
    ['<mailto:a@b.de>', '<mailto:[email]>'],
    ['Call +49 (0)30 1234-5678 now', 'Call [phone] now'],
    ['tel:+14155552671', 'tel:[phone]'],
    ['(415) 555-2671 or 415.555.2671 or 1-415-555-2671', '[phone] or [phone] or [phone]'],
    ['London 020 7946 0958, Berlin 030/1234567.', 'London [phone], Berlin [phone].'],
    ['0049 171 2345678', '[phone]'],
    ['Card 4111 1111 1111 1111, exp 12/29', 'Card [card], exp 12/29'],
    ['3782-822463-10005', '[card]'],
    ['5555555555554444.', '[card].'],
    ['12 4111 1111 1111 1111 99', '12 [card] 99'],
    ['DE89 3704 0044 0532 0130 00 IN FULL', '[iban] IN FULL'],
    ['BE68 5390 0754 7034 PAID NOW', '[iban] PAID NOW'],
    ['GB82WEST12345698765432', '[iban]'],
    ['from 192.168.0.254.', 'from [ip].'],
    ['[2001:db8::ff00:42:8329] and fe80::1', '[[ip]] and [ip]'],
    ['2001:0db8:0000:0000:0000:ff00:0042:8329', '[ip]'],
    ['key sk-copal-abcDEF0123456789abc end', 'key [key] end'],
    ['ghp_16C7e42F292c6912E7710c838347Ae178B4a', '[key]'],
    ['AKIAIOSFODNN7EXAMPLE', '[key]'],
    ['xoxb-123456789012-abcdefGHIJ', '[key]'],
    [`token ${JWT}`, 'token [key]'],
    ['Authorization: Bearer abcdefghijklmnop1234', 'Authorization: Bearer [key]'],
    ['const password = "hunter2hunter2"', 'const password = "[key]"'],
    ['{"api_key": "s3cr3t-value"}', '{"api_key": "[key]"}'],
    ['postgres://admin:pa55word@db.local/x', 'postgres://[key]@db.local/x'],
    [`before ${PEM} after`, 'before [key] after'],
    ['cut off: -----BEGIN PRIVATE KEY-----\nMIIE', 'cut off: [key]'],
    ['my driver license is D1234567', 'my driver license is [id]'],
    ["driver's licence no. D1234567", "driver's licence no. [id]"],
    ['The API key: a1b2c3d4e5f6a7b8', 'The API key: [key]'],
    ['86 095 742 719', '[id]'],
    ['My pass is hunter2hunter2.', 'My pass is [key].'],
    ['Password: 123456ab', 'Password: [key]'],
    ['Passwort: 123456a!', 'Passwort: [key]'],
    ['Just in case: 07700900456', 'Just in case: [phone]'],
    ['To order, 07700900456', 'To order, [phone]'],
    ['You can reach me at 13912345678', 'You can reach me at [phone]'],
    ['My number is now 89123456789', 'My number is now [phone]'],
    ['Sam Lee, ph 4155550132', 'Sam Lee, ph [phone]'],
  ])('%s', (text, redacted) => {
    expect(redact(text)).toBe(redacted)
  })
})

describe('similar text is not replaced', () => {
  test.each([
    'On 2024-05-17 at 12:30:45 we measured 3.14159265358979 m.',
    'Version 1.2.3 of the 2nd edition, ISBN 978-0-306-40615-7.',
    'std::vector<int> a::b; abc::def()',
    'Order 1234 5678 9012 3456 was shipped.',
    'In 1984, 15000 people; pages 100-200.',
    'GB82 WEST 1234 5698 7654 33',
    'risk-adjusted-and-then-some-more words',
    'const token = nextToken()',
    '-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----',
    '999.999.999.999',
    'In some 10 000 000 000 years',
    'Ein 12345-seitiges Buch. Nie 12345 Mal.',
    'The steps pass: 10.5ms each',
    'Order 07700900456, and case 07700900456',
    'order 4155550123, id 13912345678, ISBN 0306406157',
    'Grüße 你好 🙂',
  ])('%s', (text) => {
    expect(redact(text)).toBe(text)
  })
})

test('redacting twice changes nothing more', () => {
  const text = `a@b.cd ${JWT} +49 30 12345678 4111111111111111 10.0.0.1`
  expect(redact(redact(text))).toBe(redact(text))
})

/** Texts for which a quadratic pattern would need longer than the timeout. */
test.each([
  'a',
  'a@',
  'a.',
  'eyJ',
  'eyJaaaaaaaa.',
  '1 ',
  '1',
  '+1',
  '0123 ',
  ':',
  'a:',
  '1.',
  'AA11',
  'A1 ',
  '-----BEGIN PRIVATE KEY-----',
  '-----BEGIN ',
  'password = "',
  '://a:',
  'Bearer aaaaaaaaaaaaaaaaaaaaaaaa ',
  '(415) ',
])('a million characters of %j are redacted in linear time', (piece) => {
  const text = piece.repeat(Math.ceil(1_000_000 / piece.length))
  expect(redact(text).length).toBeGreaterThan(0)
})
