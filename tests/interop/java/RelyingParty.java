import java.io.FileInputStream;
import java.io.InputStream;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertPath;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.PKIXRevocationChecker.Option;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * What a Java program does with our certificates; everything it needs it finds through their extensions.
 *
 * Usage: java RelyingParty.java WHAT FILE... with WHAT one of
 *   ocsp, crl   ROOT ISSUING LEAF...: path validation of each leaf with revocation checked that way
 *   path        ROOT ISSUING LEAF...: path validation of each leaf, revocation aside
 *   ocsp-leaf   ROOT ISSUING LEAF...: the same by OCSP, of the leaf alone
 *   p12         FILE PASSWORD_FILE:   aliases, key algorithms and chain lengths of a PKCS #12
 */
public class RelyingParty {
    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("p12")) {
            describeStore(Path.of(arguments[1]), Path.of(arguments[2]));
            return;
        }
        X509Certificate root = certificate(arguments[1]);
        X509Certificate issuing = certificate(arguments[2]);
        for (int i = 3; i < arguments.length; i++) {
            String verdict = validate(root, List.of(certificate(arguments[i]), issuing), arguments[0]);
            System.out.println(Path.of(arguments[i]).getFileName() + ": " + verdict);
        }
    }

    private static Set<Option> options(String way) {
        return switch (way) {
            case "ocsp" -> EnumSet.of(Option.NO_FALLBACK);
            case "ocsp-leaf" -> EnumSet.of(Option.NO_FALLBACK, Option.ONLY_END_ENTITY);
            default -> EnumSet.of(Option.PREFER_CRLS, Option.NO_FALLBACK);
        };
    }

    private static String validate(X509Certificate root, List<X509Certificate> chain, String way)
            throws Exception {
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        if (way.equals("path")) {
            parameters.setRevocationEnabled(false);
        } else {
            PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
            checker.setOptions(options(way));
            parameters.addCertPathChecker(checker);
        }
        CertPath path = CertificateFactory.getInstance("X.509").generateCertPath(new ArrayList<>(chain));
        try {
            validator.validate(path, parameters);
            return "valid";
        } catch (CertPathValidatorException refusal) {
            return refusal.getReason() + " at " + refusal.getIndex() + " (" + refusal.getMessage() + ")";
        }
    }

    private static void describeStore(Path file, Path passwordFile) throws Exception {
        char[] password = java.nio.file.Files.readString(passwordFile).strip().toCharArray();
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream in = new FileInputStream(file.toFile())) {
            store.load(in, password);
        }
        for (String alias : java.util.Collections.list(store.aliases())) {
            String algorithm = store.getKey(alias, password).getAlgorithm();
            System.out.println(alias + ": " + algorithm + ", chain of " + store.getCertificateChain(alias).length);
        }
    }

    private static X509Certificate certificate(String file) throws Exception {
        try (InputStream in = new FileInputStream(file)) {
            return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in);
        }
    }
}
