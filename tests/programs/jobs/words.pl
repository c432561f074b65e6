# SPDX-License-Identifier: LGPL-2.1-or-later
# Perl: regular expressions, big hashes, a sort, a child at the other end of a pipe, an alarm.
use strict;
use warnings;

my ($result, $rounds) = @ARGV;
my ($seed, $alarms, %count) = (42, 0, ());

$SIG{ALRM} = sub { $alarms++; alarm 1 };
alarm 1;

my $pid = open(my $child, '-|') // die "fork: $!";
if (!$pid) {
	$| = 1;
	for my $line (1 .. $rounds) {
		my @words = map { $seed = ($seed * 1103515245 + 12345) % 2**31; sprintf 'w%x', $seed % 5000 } 1 .. 200;
		print "@words\n";
	}
	exit 7;
}
while (my $line = <$child>) {
	$count{$1}++ while $line =~ /\b(w[0-9a-f]+)\b/g;
	(my $copy = $line) =~ s/w(\w)(\w*)/$2$1/g;
	$count{length $copy}++;
}
close $child;
my $status = $? >> 8;
open(my $out, '>', $result) or die "$result: $!";
print $out "$_ $count{$_}\n" for sort keys %count;
print $out "child $status\n";
close $out;
